// How a value is best shown.

import type { Json, Value } from "../api/types";

export type Kind = "nothing" | "text" | "markdown" | "image" | "file" | "tree";

export interface FileRef {
  url: string;
  name: string;
  size: number | null;
}

const IMAGES = /\.(png|jpe?g|gif|webp)$/i;
const DATA_IMAGE = /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]+$/;

/** A file that is recorded beside the value: `{"$blob": digest, "size", "name", "url"}`. */
export function fileOf(value: Json): FileRef | null {
  if (value === null || typeof value !== "object" || typeof value.url !== "string") return null;
  const digest = value.$blob ?? value.sha256 ?? value.digest;
  if (typeof digest !== "string") return null;
  return {
    url: value.url,
    name: String(value.name || digest.slice(0, 12)),
    size: typeof value.size === "number" ? value.size : null,
  };
}

export const isImage = (file: FileRef): boolean => IMAGES.test(file.name);

/** An image that is written out in a text. SVG is none of them: it can hold scripts. */
export const isDataImage = (value: Json): value is string =>
  typeof value === "string" && DATA_IMAGE.test(value);

/** How the formats begin in base64, as bytes come. */
const BEGINNINGS = [["iVBORw0KGgo", "png"], ["/9j/", "jpeg"], ["R0lGOD", "gif"], ["UklGR", "webp"]] as const;

/** The format of the picture that recorded bytes are, null if they are none. */
export function pictureOf({ value, content_type }: Value): string | null {
  if (content_type !== "binary" || typeof value !== "string") return null;
  return BEGINNINGS.find(([beginning]) => value.startsWith(beginning))?.[1] ?? null;
}

/** The server sends so many items of a list or map that is large, and says behind them how many more there are. */
const SENT = 50;

/** How many items of a list or map were not sent. */
export function leftOut(value: Json): number {
  if (value === null || typeof value !== "object") return 0;
  const more = Array.isArray(value) ? value[SENT]?.$more : value.$more;
  const length = Array.isArray(value) ? value.length : Object.keys(value).length;
  return length === SENT + 1 && typeof more === "number" ? more : 0;
}

/** The address of what the server names by `/api/…`, wherever the page lies. */
export function beside(url: string): string {
  return new URL(url.replace(/^\//, ""), document.baseURI.split("#")[0]).href;
}
