import { Component, lazy, type ReactNode, Suspense, useEffect, useState } from "react";
import { useRefused } from "../api/client";
import { recorded } from "../api/recorded";
import { Dialog, Empty, Failure, Loading } from "../common/ui";
import { DiagramPage } from "../diagrams/DiagramPage";
import { DiagramsPage } from "../diagrams/DiagramsPage";
import { ExecutionPage } from "../execution/ExecutionPage";
import { ExecutionsPage } from "../executions/ExecutionsPage";
import { Palette, useCommands } from "./commands";
import { keysNow, useKeys } from "./keys";
import { Notes } from "./notes";
import { go, link, useRoute, route as whereNow } from "./route";
import { setTheme, type Theme, useTheme } from "./theme";

/** The layout's worker takes its time to load: it does so while the list is read. */
const WARM_MS = 1500;

const Diff = lazy(() => import("../diff").then((module) => ({ default: module.Diff })));

export function App() {
  const refused = useRefused();
  const route = useRoute();
  const [help, setHelp] = useState(false);
  const [palette, setPalette] = useState(false);
  useKeys({
    "?": ["help", () => setHelp(true)],
    "Ctrl+k": ["go to anything", () => setPalette(true)],
  });
  const theme = useTheme();
  useCommands([
    ...(recorded() === null ? PLACES : []),
    { title: "Keyboard", hint: "?", act: () => setHelp(true) },
    { title: "Theme: light", act: () => setTheme("light") },
    { title: "Theme: dark", act: () => setTheme("dark") },
    { title: "Theme: the system's", act: () => setTheme("system") },
  ]);
  useEffect(() => {
    const timer = setTimeout(() => import("../graph/elk").then(({ warm }) => warm(), () => undefined), WARM_MS);
    return () => clearTimeout(timer);
  }, []);
  const nowhere = route.path.length === 0;
  useEffect(() => {
    if (nowhere && whereNow().path.length === 0) go(link(["executions"]), true);
  }, [nowhere]);
  if (refused) return <Refused />;
  return (
    <>
      <header className="top">
        <a className="brand" href={link(["executions"])} aria-label="Treadle, executions">
          <img src="./icon.svg" alt="" width="20" height="20" />
          <span>Treadle</span>
        </a>
        <nav aria-label="Main">
          <Place to="executions" text="Executions" />
          <Place to="diagrams" text="Diagrams" />
        </nav>
        <span className="grow" />
        <button type="button" className="palette-button" onClick={() => setPalette(true)}>
          Go to … <kbd>Ctrl K</kbd>
        </button>
        <button
          type="button"
          className="plain"
          title={`Theme: ${theme === "system" ? "the system's" : theme}`}
          aria-label={`Theme: ${theme === "system" ? "the system's" : theme}. Change it`}
          onClick={() => setTheme(NEXT_THEME[theme])}
        >
          {THEME_MARK[theme]}
        </button>
        <button type="button" className="plain" aria-label="Keyboard help" title="Keyboard (?)" onClick={() => setHelp(true)}>
          ?
        </button>
      </header>
      <main>
        <Boundary key={route.path.join("/")}>
          <Suspense fallback={<Loading />}>
            <Where path={route.path} />
          </Suspense>
        </Boundary>
      </main>
      <Notes />
      {help && <Help close={() => setHelp(false)} />}
      {palette && <Palette close={() => setPalette(false)} />}
    </>
  );
}

const PLACES = [
  { title: "Executions", act: () => go(link(["executions"])) },
  { title: "Diagrams", act: () => go(link(["diagrams"])) },
];
const NEXT_THEME: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const THEME_MARK: Record<Theme, string> = { system: "◐", light: "☀", dark: "☾" };

function Place({ to, text }: { to: string; text: string }) {
  const { path } = useRoute();
  return (
    <a href={link([to])} aria-current={path[0] === to ? "page" : undefined}>
      {text}
    </a>
  );
}

function Where({ path }: { path: readonly string[] }) {
  const [place, a, b] = path;
  if (place === undefined) return null;
  if (place === "executions") return a === undefined ? <ExecutionsPage /> : <ExecutionPage key={a} id={a} />;
  if (place === "diagrams") return a === undefined ? <DiagramsPage /> : <DiagramPage key={a} hash={a} />;
  if (place === "diff" && a !== undefined && b !== undefined) return <Diff a={a} b={b} />;
  return (
    <Empty title="There is no such page">
      <p>
        <a href={link(["executions"])}>All executions</a>
      </p>
    </Empty>
  );
}

function Refused() {
  return (
    <main className="alone">
      <h1>The server doesn't know this browser</h1>
      <p>
        Open the link with the token that <code>treadle serve</code> printed. A server that was
        started again has a new one, unless its tokens are in a file.
      </p>
      <button type="button" onClick={() => location.reload()}>
        Try again
      </button>
    </main>
  );
}

const EVERYWHERE: Record<string, string> = { Escape: "back: close, or leave a field" };
const KEY_NAMES: Record<string, string> = {
  " ": "Space", ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", "Ctrl+k": "Ctrl K",
};

function Help({ close }: { close: () => void }) {
  const [keys] = useState(() => [...new Map([...Object.entries(EVERYWHERE), ...keysNow()])]);
  return (
    <Dialog title="Keyboard" close={close}>
      <dl className="keys">
        {keys.map(([key, says]) => (
          <div key={key}>
            <dt>
              <kbd>{KEY_NAMES[key] ?? key}</kbd>
            </dt>
            <dd>{says}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}

/** What browsers say of a module that isn't there. */
const GONE = /dynamically imported module|Importing a module script failed|Unable to preload CSS/;

/** A fault of the page itself: the rest stays usable. */
class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    if (GONE.test(this.state.error.message)) {
      return (
        <div className="alone">
          <h1>The server has a newer page</h1>
          <p>It was updated while this page was open.</p>
          <button type="button" className="primary" onClick={() => location.reload()}>Load it</button>
        </div>
      );
    }
    return (
      <div className="alone">
        <h1>This view broke</h1>
        <Failure error={this.state.error} again={() => this.setState({ error: null })} />
        <p className="muted">This is a fault of Treadle's own; please report it with what you did.</p>
      </div>
    );
  }
}
