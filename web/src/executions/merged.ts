import type { Summary } from "../api/types";

/** What the list shows after some executions changed: fields are put over fields; null: it was deleted. */
export function merged(items: readonly Summary[], told: Record<string, Partial<Summary> | null>): {
  items: readonly Summary[];
  unknown: boolean;
} {
  const rest = new Set(Object.keys(told));
  const changed = items.flatMap((item) => {
    if (!rest.delete(item.id)) return [item];
    const fields = told[item.id];
    return fields === null || fields === undefined ? [] : [{ ...item, ...fields }];
  });
  // one that is new, or has come to stand as the filter wants it, tells its status; what else changes is not ours
  return { items: changed, unknown: [...rest].some((id) => told[id]?.status !== undefined) };
}

/** Whether one of those that changed has come to stand still. */
export function stands(told: Record<string, Partial<Summary> | null>): boolean {
  return Object.values(told).some((fields) => fields?.status !== undefined && fields.status !== "running");
}
