import "./values.css";
import { useState } from "react";
import { useGet } from "../api/client";
import { recorded } from "../api/recorded";
import type { Json, Value } from "../api/types";
import { size } from "../common/format";
import { Copy, Failure, Loading } from "../common/ui";
import { beside, fileOf, isDataImage, isImage, pictureOf } from "./kinds";
import { Markdown } from "./Markdown";
import { looksLikeMarkdown } from "./markdown";
import { Tree } from "./Tree";

const MARKDOWN_MAX = 60_000;
const TEXT_MAX = 20_000;
const PICTURE_MAX = 8 * 2 ** 20;

/** A recorded value: pictures, Markdown and text as such, all else as a tree. */
export function ValueView({ value, none = "nothing" }: { value: Value; none?: string }) {
  const nothing = value.value === null && !value.size;
  const [raw, setRaw] = useState(false);
  if (nothing) return <p className="muted">{none}</p>;
  const text = typeof value.value === "string" ? value.value : null;
  const markdown =
    text !== null && text.length <= MARKDOWN_MAX && !value.truncated && looksLikeMarkdown(text);
  const format = text === null || (value.truncated && !fetched(value)) ? null : pictureOf(value);
  return (
    <div className="value">
      {format !== null ? <Bytes value={value} format={format} /> : <Shown value={value.value} markdown={markdown && !raw} />}
      <p className="value-foot muted">
        {value.content_type && <span>{value.content_type}</span>}
        {value.size ? <span>{size(value.size)}</span> : null}
        {value.truncated && format === null && <span className="status-retrying">only its beginning is shown</span>}
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

const fetched = ({ url, size }: Value): boolean => recorded() === null && Boolean(url) && (size ?? 0) <= PICTURE_MAX;

/** A picture that came as bytes; what isn't all here is asked for. */
function Bytes({ value, format }: { value: Value; format: string }) {
  const address = (value.url ?? "").replace(/^\/?api\//, "");
  const whole = useGet<string>(value.truncated ? address : null);
  const bytes = value.truncated ? whole.data : String(value.value);
  if (whole.error) return <Failure error={whole.error} again={whole.again} />;
  if (bytes === null) return <Loading what="Loading the picture" />;
  return <Picture url={`data:image/${format};base64,${bytes}`} name="picture" />;
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
  // browsers don't go to an address that is the picture itself
  const to = url.startsWith("data:") ? { download: name } : { target: "_blank", rel: "noreferrer" };
  return (
    <a href={url} {...to} className="picture">
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
