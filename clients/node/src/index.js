// What a program imports: publisher, worker, and the errors that end a worker.
export { Publisher } from "./publisher.js";
export { Worker, RefusedError, TakenOverError } from "./worker.js";
