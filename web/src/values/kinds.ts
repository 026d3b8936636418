// How a value is best shown.

import type { Json } from "../api/types";

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

/** The address of what the server names by `/api/…`, wherever the page lies. */
export function beside(url: string): string {
  return new URL(url.replace(/^\//, ""), document.baseURI.split("#")[0]).href;
}
