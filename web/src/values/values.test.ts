import { describe, expect, test } from "vitest";
import { fileOf, isDataImage, isImage, leftOut, pictureOf } from "./kinds";
import { inline, looksLikeMarkdown, parseMarkdown, safeHref } from "./markdown";

describe("markdown", () => {
  test("blocks", () => {
    const text =
      "# Title #\n\nwords\nmore\n\n- a\n- b\n  - c\n\n1. one\n2. two\n\n> said\n\n```py\nx = 1\n# no title\n```\n\n---\n| a | b |\n|---|:-:|\n| 1 | **2** |";
    expect(parseMarkdown(text).map((block) => block.kind)).toEqual([
      "heading",
      "paragraph",
      "list",
      "list",
      "quote",
      "code",
      "rule",
      "table",
    ]);
    const lists = parseMarkdown(text).filter((block) => block.kind === "list");
    expect(lists[0]?.items.map((item) => item.map((block) => block.kind))).toEqual([
      ["paragraph"],
      ["paragraph", "list"],
    ]);
    expect(lists[1]).toMatchObject({ ordered: true, start: 1 });
  });
  test("inline", () => {
    expect(inline("a **b *c*** `d*e*` [f](https://x.y) \\*g")).toEqual([
      { kind: "text", text: "a " },
      {
        kind: "strong",
        inside: [
          { kind: "text", text: "b " },
          { kind: "em", inside: [{ kind: "text", text: "c" }] },
        ],
      },
      { kind: "text", text: " " },
      { kind: "code", text: "d*e*" },
      { kind: "text", text: " " },
      { kind: "link", href: "https://x.y", inside: [{ kind: "text", text: "f" }] },
      { kind: "text", text: " *g" },
    ]);
  });
  test("snake_case stays as it is", () =>
    expect(inline("a snake_case_name")).toEqual([{ kind: "text", text: "a snake_case_name" }]));
  test.each(["javascript:alert(1)", "JaVaScRiPt:x", "data:text/html,x", "//evil", "vbscript:x"])(
    "%s is no link",
    (href) => {
      expect(safeHref(href)).toBe(null);
      expect(JSON.stringify(inline(`[x](${href})`))).not.toContain('"link"');
    },
  );
  test("tags are text", () => {
    expect(parseMarkdown("<img src=x onerror=alert(1)>")).toEqual([
      { kind: "paragraph", inside: [{ kind: "text", text: "<img src=x onerror=alert(1)>" }] },
    ]);
  });
  test("what never ends is read, quickly", () => {
    for (const bad of [
      "```\nx",
      `${"> ".repeat(5000)}x`,
      "*".repeat(20_000),
      "[".repeat(20_000),
      `${"**a ".repeat(3000)}`,
      "`".repeat(5000),
    ]) {
      const began = performance.now();
      parseMarkdown(bad);
      expect(performance.now() - began, bad.slice(0, 10)).toBeLessThan(1500);
    }
  });
  test("is told from plain text", () => {
    expect(["# T", "a\n- b\n- c", "**b**", "```\nx\n```"].map(looksLikeMarkdown)).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect(["plain", "a - b", "2 * 3 * 4", "{}"].map(looksLikeMarkdown)).toEqual([
      false,
      false,
      false,
      false,
    ]);
  });
});

test("files are known by their digests, pictures by their names", () => {
  const file = fileOf({ $blob: "ab".repeat(32), size: 5, name: "a.PNG", url: "/api/blobs/ab" });
  expect(file && isImage(file)).toBe(true);
  expect(fileOf({ url: "x" })).toBe(null);
  expect(fileOf(null)).toBe(null);
  expect([
    isDataImage("data:image/png;base64,AAAA"),
    isDataImage("data:image/svg+xml;base64,AAAA"),
    isDataImage(5),
  ]).toEqual([true, false, false]);
});

test("bytes of a picture are one, other bytes and texts are not", () => {
  const bytes = { value: "iVBORw0KGgoAAAAN", content_type: "binary", size: 12 };
  expect(pictureOf(bytes)).toBe("png");
  expect(pictureOf({ ...bytes, content_type: "raw_text" })).toBeNull();
  expect(pictureOf({ ...bytes, value: "AAAA" })).toBeNull();
});

test("what the server left out of a large value is counted, and a short one has all", () => {
  const some = Array.from({ length: 50 }, (_, n) => n);
  expect(leftOut([...some, { $more: 19_950 }])).toBe(19_950);
  expect(leftOut({ ...Object.fromEntries(some.map((n) => [`k${n}`, n])), $more: 3 })).toBe(3);
  expect(leftOut([1, { $more: 4 }])).toBe(0); // its last item lies too deep
  expect(leftOut({ $more: 4 })).toBe(0);
});
