// The components that views share. A view imports all of them from here.
export { Chart } from "./chart.js";
export { ConfirmByTyping, Dialog } from "./dialog.js";
export { Field, Select, Tabs, Toggle } from "./forms.js";
export { Copy, Empty, ErrorBox, Loaded, Loading, Panel, Progress, Stat, Tag, Type } from "./parts.js";
export { MemoryDetails, MemoryList } from "./memories.js";
export { Rows } from "./rows.js";
export { Table } from "./table.js";
export { Elsewhere, Json, Outcome, TaskState } from "./task.js";
export { Toasts, toast } from "./toast.js";
