import "./values.css";
import { useState } from "react";
import { recorded } from "../api/recorded";
import type { Json, Value } from "../api/types";
import { size } from "../common/format";
import { Copy } from "../common/ui";
import { beside, fileOf, isDataImage, isImage } from "./kinds";
import { Markdown } from "./Markdown";
import { looksLikeMarkdown } from "./markdown";
import { Tree } from "./Tree";

const MARKDOWN_MAX = 60_000;
const TEXT_MAX = 20_000;

/** A recorded value: pictures, Markdown and text as such, all else as a tree. */
export function ValueView({ value, none = "nothing" }: { value: Value; none?: string }) {
  const nothing = value.value === null && !value.size;
  const [raw, setRaw] = useState(false);
  if (nothing) return <p className="muted">{none}</p>;
  const text = typeof value.value === "string" ? value.value : null;
  const markdown =
    text !== null && text.length <= MARKDOWN_MAX && !value.truncated && looksLikeMarkdown(text);
  return (
    <div className="value">
      <Shown value={value.value} markdown={markdown && !raw} />
      <p className="value-foot muted">
        {value.content_type && <span>{value.content_type}</span>}
        {value.size ? <span>{size(value.size)}</span> : null}
        {value.truncated && <span className="status-retrying">only its beginning is shown</span>}
        {markdown && (
          <button type="button" className="link" onClick={() => setRaw(!raw)}>
            {raw ? "Rendered" : "As text"}
          </button>
        )}
        {!value.truncated && (
          <Copy text={text ?? JSON.stringify(value.value, null, 2)}>
            <span className="copy-word">Copy</span>
          </Copy>
        )}
        {value.url && recorded() === null && (
          <a href={beside(value.url)} target="_blank" rel="noreferrer">
            {value.truncated ? "The whole" : "Open"}
          </a>
        )}
      </p>
    </div>
  );
}

function Shown({ value, markdown }: { value: Json; markdown: boolean }) {
  const file = fileOf(value);
  if (file && isImage(file)) return <Picture url={beside(file.url)} name={file.name} />;
  if (isDataImage(value)) return <Picture url={value} name="picture" />;
  if (typeof value === "string") return markdown ? <Markdown text={value} /> : <Text text={value} />;
  return <Tree value={value} />;
}

function Picture({ url, name }: { url: string; name: string }) {
  const [failed, setFailed] = useState(false);
  if (failed)
    return (
      <p className="muted">
        The picture {name} can't be shown.{" "}
        <a href={url} download={name}>
          Download it
        </a>
      </p>
    );
  return (
    <a href={url} target="_blank" rel="noreferrer" className="picture">
      <img src={url} alt={name} loading="lazy" onError={() => setFailed(true)} />
    </a>
  );
}

function Text({ text }: { text: string }) {
  const [whole, setWhole] = useState(false);
  const long = text.length > TEXT_MAX && !whole;
  return (
    <pre className="text-value">
      {long ? text.slice(0, TEXT_MAX) : text}
      {long && (
        <button type="button" className="link" onClick={() => setWhole(true)}>
          … all of it
        </button>
      )}
    </pre>
  );
}
