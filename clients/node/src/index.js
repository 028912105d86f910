export { Publisher } from "./publisher.js";
export { Worker, RefusedError, TakenOverError } from "./worker.js";
