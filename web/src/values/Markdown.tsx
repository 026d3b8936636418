import { Fragment, type ReactNode, useMemo } from "react";
import { type Block, type Inline, parseMarkdown } from "./markdown";

/** Markdown as elements: nothing in it is ever read as HTML. */
export function Markdown({ text }: { text: string }) {
  const parsed = useMemo(() => parseMarkdown(text), [text]);
  return <div className="markdown">{parsed.map(block)}</div>;
}

function block(one: Block, key: number): ReactNode {
  switch (one.kind) {
    case "heading":
      return (
        <p key={key} role="heading" aria-level={one.level} className={`h${one.level}`}>
          {one.inside.map(inline)}
        </p>
      );
    case "paragraph":
      return <p key={key}>{one.inside.map(inline)}</p>;
    case "code":
      return (
        <pre key={key}>
          <code>{one.text}</code>
        </pre>
      );
    case "quote":
      return <blockquote key={key}>{one.inside.map(block)}</blockquote>;
    case "rule":
      return <hr key={key} />;
    case "list": {
      const items = one.items.map((item, n) => <li key={n}>{item.map(tight)}</li>);
      return one.ordered ? (
        <ol key={key} start={one.start}>
          {items}
        </ol>
      ) : (
        <ul key={key}>{items}</ul>
      );
    }
    case "table":
      return (
        <table key={key}>
          <thead>
            <tr>
              {one.head.map((cell, n) => (
                <th key={n}>{cell.map(inline)}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {one.rows.map((row, n) => (
              <tr key={n}>
                {row.map((cell, m) => (
                  <td key={m}>{cell.map(inline)}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      );
  }
}

/** The words of an item need no paragraph around them. */
const tight = (one: Block, key: number): ReactNode =>
  one.kind === "paragraph" ? <Fragment key={key}>{one.inside.map(inline)}</Fragment> : block(one, key);

function inline(one: Inline, key: number): ReactNode {
  switch (one.kind) {
    case "text":
      return one.text;
    case "code":
      return <code key={key}>{one.text}</code>;
    case "strong":
      return <strong key={key}>{one.inside.map(inline)}</strong>;
    case "em":
      return <em key={key}>{one.inside.map(inline)}</em>;
    case "del":
      return <del key={key}>{one.inside.map(inline)}</del>;
    case "link":
      return (
        <a key={key} href={one.href} target="_blank" rel="noreferrer noopener">
          {one.inside.map(inline)}
        </a>
      );
  }
}
