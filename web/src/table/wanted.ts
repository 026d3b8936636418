/** Whether the table's filter takes the focus as soon as it is there: `/` was pressed in another view. */
export const filter = { wanted: false };
