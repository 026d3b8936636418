import { useGet } from "../api/client";
import type { Diagrams } from "../api/types";
import { useKeys } from "../app/keys";
import { go, link } from "../app/route";
import { ago, count, local } from "../common/format";
import { StatusIcon } from "../common/status";
import { Empty, Failure, Loading, useNow } from "../common/ui";
import { commonFolder } from "./folder";
import "../executions/executions.css";
import "./diagrams.css";

const AGAIN_S = 10;

/** The files that the server was given, and the diagrams that its store holds. */
export function DiagramsPage() {
  const got = useGet<Diagrams>("diagrams", {}, AGAIN_S);
  const now = useNow(30);
  useKeys({ Escape: ["back", () => go(link(["executions"]))] });
  const files = got.data?.files ?? [];
  const stored = got.data?.stored ?? [];
  const folder = commonFolder(files.map((each) => each.file));
  return (
    <div className="executions">
      <h1 className="sr-only">Diagrams</h1>
      {got.error && <Failure error={got.error} again={got.again} />}
      {got.loading && <Loading what="Loading diagrams" />}
      {got.data && files.length + stored.length === 0 && (
        <Empty title="No diagrams yet">
          <p><code>treadle serve FILES…</code> shows the files and folders that it is given, checked, and starts them.</p>
        </Empty>
      )}
      {files.length > 0 && (
        <section className="diagram-list">
          <h2>Files</h2>
          <table className="list">
            <thead><tr><th className="c-check">Check</th><th>Name</th><th className="c-file">File</th></tr></thead>
            <tbody>
              {files.map((each) => {
                const to = link(["diagrams", "file"], { file: each.file });
                return (
                  <tr key={each.file} onClick={() => go(to)}>
                    <td className="c-check">
                      <span className={`status status-${each.valid ? "completed" : "failed"}`}>
                        <StatusIcon status={each.valid ? "completed" : "failed"} />{each.valid ? "no fault" : "faults"}
                      </span>
                    </td>
                    <td className="c-name"><a href={to}>{each.name || "unnamed"}</a></td>
                    <td className="c-file mono muted" title={each.file}>{each.file.slice(folder.length)}</td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </section>
      )}
      {stored.length > 0 && (
        <section className="diagram-list">
          <h2>Run before</h2>
          <table className="list">
            <thead><tr><th>Name</th><th className="c-hash">Hash</th><th className="num c-took">Executions</th><th className="num c-took">Last</th></tr></thead>
            <tbody>
              {stored.map((each) => (
                <tr key={each.hash} onClick={() => go(link(["diagrams", each.hash]))}>
                  <td className="c-name"><a href={link(["diagrams", each.hash])}>{each.name || "unnamed"}</a></td>
                  <td className="c-hash mono muted">{each.hash.slice(0, 12)}</td>
                  <td className="num c-took">{count(each.executions)}</td>
                  <td className="num c-took" title={local(each.last_at)}>{ago(each.last_at, now)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </div>
  );
}
