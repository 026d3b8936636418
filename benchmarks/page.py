"""How the monitor's page does with 10,000 nodes while 1,000 of them end in a second.

    python benchmarks/page.py                   all views
    python benchmarks/page.py graph             … or some: graph, timeline, table
    python benchmarks/page.py --profile graph   … and which functions the page spends its time in

Needs Chromium. The engine and the server are in a process of their own, the browser is cold and without a
GPU. *First paint* is from the request for the page to its first text, *drawn* to the first node on it.
*Frames* are counted by the page itself while one pans, zooms and scrolls without a break; *longest* is the
longest time between two. *Heap* is what JavaScript uses at most, with what is not collected yet.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from monitor import TOKEN, _compiled
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.engine.engine import Engine
from treadle.monitor import Monitor, Settings, serve

LANES, TURNS = 20, 500
MEASURED_S = 4.0
SIZE = (1280, 800)
DRAWN = {"graph": ".box, canvas.far", "timeline": ".view canvas", "table": ".table-row:not(.table-head)"}
WATCH = """
selector => {
  window.frames_ = [];
  const seen = () => {
    if (window.drawn_ === undefined && document.querySelector(selector)) window.drawn_ = performance.now();
  };
  new MutationObserver(seen).observe(document, {childList: true, subtree: true});
  const turn = (at) => {
    window.frames_.push(at);
    requestAnimationFrame(turn);
  };
  requestAnimationFrame(turn);
}
"""


async def beat(item: Any = None) -> Any:
    """A node: one of 20 that run side by side, 20 ms each."""
    await asyncio.sleep(0.019)
    return item


def diagram() -> ExecutableDiagram:
    """20 chains of 500 nodes."""
    from treadle.diagram.node import Arrow, Node
    from treadle.ids import NodeID

    names = [[NodeID(f"lane{lane}_{turn}") for turn in range(TURNS)] for lane in range(LANES)]
    nodes = tuple(Node(name, "code_job", {"call": "page:beat"}) for lane in names for name in lane)
    arrows = tuple(Arrow(before, after, input="item") for lane in names
                   for before, after in pairwise(lane))
    return _compiled(DiagramSpec("page", nodes, arrows, base=str(Path(__file__).parent)))


def site(commands: Connection) -> None:
    """The engine and the server; each message starts an execution and is answered by its id."""
    async def main() -> None:
        with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
            async with Engine.open(f"{folder}/runs.db") as engine, \
                    Monitor(engine.store, engine=engine) as monitor, \
                    serve(monitor, Settings(write_token=TOKEN, requests_per_s=1e6, burst=10**6)) as served:
                commands.send(served.link)
                drawn, handle = diagram(), None
                while await asyncio.to_thread(commands.recv):
                    if handle is not None:
                        await handle.cancel()
                    handle = await engine.start(drawn)
                    commands.send(handle.execution_id)
                if handle is not None:
                    await handle.cancel()

    asyncio.run(main())


def drive(page: Page, view: str) -> None:
    """Pan and zoom, or scroll, until the time is over."""
    width, height = SIZE
    middle = (width * 0.45, height * 0.6)
    page.mouse.move(*middle)
    end, turn = time.monotonic() + MEASURED_S, 0
    while time.monotonic() < end:
        turn += 1
        if view != "graph":
            page.mouse.wheel(0, 240 if turn % 60 < 40 else -240)
        elif turn % 40 < 20:
            page.mouse.wheel(0, -120 if turn % 20 < 10 else 120)
        else:
            if turn % 20 == 0:
                page.mouse.down()
            page.mouse.move(middle[0] + 12 * (turn % 20), middle[1] - 6 * (turn % 20))
            if turn % 20 == 19:
                page.mouse.up()
    page.mouse.up()


def heap(cdp: CDPSession) -> float:
    """MB."""
    metrics = {one["name"]: one["value"] for one in cdp.send("Performance.getMetrics")["metrics"]}
    return float(metrics["JSHeapUsedSize"]) / 2**20


def measure(browser: Browser, view: str, link: str, execution_id: str, profile: bool) -> str:
    """The row of one view."""
    context = browser.new_context(viewport={"width": SIZE[0], "height": SIZE[1]})
    page = context.new_page()
    page.add_init_script(f"({WATCH})({DRAWN[view]!r})")
    cdp = context.new_cdp_session(page)
    cdp.send("Performance.enable")
    address, _, token = link.partition("?")
    page.goto(f"{address}?{token}#/executions/{execution_id}?tab={view}", wait_until="commit")
    page.wait_for_function("() => window.drawn_ !== undefined", timeout=60_000)
    heaps = [heap(cdp)]
    if profile:
        cdp.send("Profiler.enable")
        cdp.send("Profiler.start")
    page.evaluate("window.frames_.length = 0")
    ended = page.evaluate(ENDED, execution_id)
    drive(page, view)
    frames: list[float] = page.evaluate("window.frames_")
    ended = page.evaluate(ENDED, execution_id) - ended
    heaps.append(heap(cdp))
    if profile:
        explain(cdp.send("Profiler.stop")["profile"])
    painted, drawn = page.evaluate(
        "[performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN, window.drawn_]")
    gaps = sorted(after - before for before, after in pairwise(frames))
    context.close()
    seconds = (frames[-1] - frames[0]) / 1000
    return (f"| {view} | {painted / 1000:.2f} | {drawn / 1000:.2f} | {len(gaps) / seconds:.0f} | "
            f"{gaps[len(gaps) * 95 // 100]:.0f} | {gaps[-1]:.0f} | {max(heaps):.0f} | "
            f"{ended / seconds:,.0f} |")


ENDED = "id => fetch(`api/executions/${id}`).then((answer) => answer.json()).then((one) => one.done)"


def explain(profile: dict[str, Any]) -> None:
    """The functions that took most of the time by themselves."""
    step = Counter[int](profile["samples"])
    own = Counter[str]()
    for node in profile["nodes"]:
        frame = node["callFrame"]
        place = f"{frame['url'].rpartition('/')[2]}:{frame['lineNumber'] + 1}:{frame['columnNumber'] + 1}"
        own[f"{frame['functionName'] or '?'} {place}"] += step[node["id"]]
    for name, samples in own.most_common(25):
        print(f"    {samples / len(profile['samples']):6.1%}  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("views", nargs="*", help="graph, timeline, table")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("benchmarks/page.py needs Chromium: on Debian `apt-get install chromium`")
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    server = spawn.Process(target=site, args=(there,), daemon=True)
    server.start()
    there.close()
    link = here.recv()
    print(f"{LANES * TURNS:,} nodes\n\n| view | first paint, s | drawn, s | frames/s | 95 % within, ms"
          " | longest, ms | heap, MB | nodes ended/s |\n" + "|---" + "|---:" * 7 + "|")
    with sync_playwright() as playwright:
        for view in options.views or DRAWN:
            browser = playwright.chromium.launch(executable_path=chromium)
            here.send("start")
            print(measure(browser, view, link, here.recv(), options.profile), flush=True)
            browser.close()
    here.send(None)
    server.join()


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
