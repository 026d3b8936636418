// A Python traceback, with the frames of those who wrote the diagram told from those of libraries.

export interface Frame {
  file: string;
  line: number;
  name: string;
  code: string[];
  /** In a file of the user's, not of Python's or of a package's. */
  own: boolean;
}

/** One traceback of a chain; `after` says how it follows from the one before. */
export interface Trace {
  frames: Frame[];
  error: string;
  after: string | null;
}

const FRAME = /^\s+File "(.+)", line (\d+)(?:, in (.+))?$/;
const NOT_OWN =
  /(^|[\\/])(site-packages|dist-packages|treadle)[\\/]|[\\/]lib[\\/]python\d|^<(?!string|code of )|^<frozen /;

/** The chain of tracebacks in a text, the outermost error last, as Python writes them. */
export function parseTraceback(text: string): Trace[] {
  const found: Trace[] = [];
  let trace: Trace | null = null;
  let link: string | null = null;
  let frame: Frame | null = null;
  for (const line of text.split("\n")) {
    const match = FRAME.exec(line);
    if (line.startsWith("Traceback (most recent call last)")) {
      trace = { frames: [], error: "", after: link };
      found.push(trace);
      frame = null;
      link = null;
    } else if (match) {
      if (trace === null) {
        trace = fresh(link);
        found.push(trace);
      }
      const [, file = "", at = "0", name = ""] = match;
      frame = { file, line: Number(at), name, code: [], own: !NOT_OWN.test(file) };
      trace.frames.push(frame);
    } else if (/^(During handling of|The above exception was)/.test(line)) {
      link = line;
      trace = frame = null;
    } else if (frame !== null && /^\s{4}/.test(line)) {
      frame.code.push(line.slice(4));
    } else if (trace !== null && line.trim() !== "") {
      frame = null;
      trace.error += (trace.error && "\n") + line;
    }
  }
  return found;
}

const fresh = (after: string | null): Trace => ({ frames: [], error: "", after });

/** Where the user should look first: their last frame in the last traceback, else the last frame of all. */
export function firstFrame(traces: readonly Trace[]): Frame | null {
  const frames = traces.at(-1)?.frames ?? [];
  return frames.findLast((frame) => frame.own) ?? frames.at(-1) ?? null;
}
