/**
 * The two kinds of errors: mistakes in what the user gave us (a file, an option, an address, a missing
 * permission), and broken rules of our own.
 */

/** Exit code of the process after a {@link UserError}. */
export const USER_ERROR_EXIT_CODE = 2;

/** Longest message kept, in UTF-16 units: one line, even when a file name of the user is in it. */
const MAX_MESSAGE_LENGTH = 400;

/**
 * A mistake in what the user gave, told in one line.
 *
 * The message may quote file contents or names, so control characters are shown as `\xNN`: an error
 * can neither span lines nor steer the terminal it is printed on.
 */
export class UserError extends Error {
  override readonly name = "UserError";
  /** Exit code that the process ends with. */
  readonly exitCode = USER_ERROR_EXIT_CODE;

  /** Makes an error from one clear sentence without its final newline. */
  constructor(message: string, options?: ErrorOptions) {
    super(oneLine(message), options);
  }
}

/** A broken rule of our own (a lock against the order, a deadlock, a missing case). Never caught on the way. */
export class InternalError extends Error {
  override readonly name = "InternalError";
}

/**
 * The host kernel has panicked, as a kernel does when its code at EL2 goes wrong: the machine stops, and
 * the message, one line, says where and why.
 */
export class KernelPanic extends Error {
  override readonly name = "KernelPanic";
}

/** Throws an {@link InternalError} unless `condition` holds. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InternalError(message);
}

/** The text with control characters escaped, cut to a length that is still one readable line. */
function oneLine(text: string): string {
  const escaped = text.replace(/\p{Cc}|\p{Cf}|\u2028|\u2029/gu, escapeCharacter);
  if (escaped.length <= MAX_MESSAGE_LENGTH) return escaped;
  return `${escaped.slice(0, MAX_MESSAGE_LENGTH - 3)}...`;
}

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}
