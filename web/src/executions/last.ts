import type { Changes } from "../app/address";

/** The list's filters when it was last looked at: Esc goes back to them. */
export const last: { filters: Changes } = { filters: {} };
