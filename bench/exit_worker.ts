/**
 * A guest of its own in a worker, and so in an engine of its own: what V8 compiles for it does not depend
 * on what other guests have done. Gets the name of what to measure, then so many ms at a time; answers
 * with microseconds for each time.
 */
import { type ExitName, EXITS, stretch, type Subject } from "./exit_subjects.ts";

/** What a worker has around it. */
interface Scope {
  onmessage: ((event: MessageEvent<ExitName | number>) => void) | null;
  postMessage(us: number): void;
}
const scope = self as unknown as Scope;

let subject: Subject | undefined;

scope.onmessage = ({ data }) => {
  if (typeof data === "string") {
    subject = EXITS[data]();
    subject.guest.boot();
  } else if (subject) scope.postMessage(stretch(subject, data));
};
