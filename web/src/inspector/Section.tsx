import { type ReactNode, useState } from "react";

/** A heading that opens. */
export function Section({ title, open = false, children }: { title: string; open?: boolean; children: ReactNode }) {
  // what is closed is not even made
  const [shown, setShown] = useState(open);
  return (
    <section>
      <h3>
        <button type="button" aria-expanded={shown} onClick={() => setShown(!shown)}>
          <span className="muted">{shown ? "▾" : "▸"}</span> {title}
        </button>
      </h3>
      {shown && children}
    </section>
  );
}
