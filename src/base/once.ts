/**
 * What is computed when it is first wanted. Tables that only some runs use are made this way: what a
 * module computes when it is loaded is in the time that every start takes.
 */
export function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
