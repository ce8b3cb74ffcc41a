/**
 * Texts as objdump prints them, compared with the disassembler's, and the fixture of recorded ones.
 *
 * Made anew (binutils 2.40) by:
 *   deno run --allow-run --allow-read --allow-write tests/arm/isa/objdump.ts
 */
import { Random, randomInstruction } from "../../../src/arm/isa/random.ts";
import { extractFields } from "../../../src/arm/isa/row.ts";
import { DECODER, disassemble, ROWS } from "../../../src/arm/isa/table.ts";

/** A word at its address as objdump prints it, without the comment. */
export interface Listed {
  readonly address: number;
  readonly word: number;
  readonly text: string;
}

/** The program, of binutils. */
export const OBJDUMP = "aarch64-linux-gnu-objdump";

/** The lines of a listing of raw binary: `address:`, tab, word, space, tab, text. */
export function parseListing(listing: string): Listed[] {
  const lines: Listed[] = [];
  for (const line of listing.split("\n")) {
    const [address, word, ...text] = line.split("\t");
    if (address === undefined || word === undefined || text.length === 0) continue;
    lines.push({
      address: parseInt(address, 16),
      word: parseInt(word, 16),
      text: text.join("\t").replace(/\s*\/\/.*$/, "").trimEnd(),
    });
  }
  return lines;
}

/** Where the words go that objdump reads: it takes no standard input. */
export const TEMPORARY = "/tmp";

/** Runs objdump on `words` laid out from address 0. Needs permission to run it and to write TEMPORARY. */
export async function listing(words: Uint32Array<ArrayBuffer>): Promise<Listed[]> {
  const path = await Deno.makeTempFile({ dir: TEMPORARY });
  try {
    await Deno.writeFile(path, new Uint8Array(words.buffer, words.byteOffset, words.byteLength));
    const args = ["-D", "-z", "-b", "binary", "-m", "aarch64", path];
    const { stdout } = await new Deno.Command(OBJDUMP, { args }).output();
    return parseListing(new TextDecoder().decode(stdout));
  } finally {
    await Deno.remove(path);
  }
}

/**
 * Words that objdump calls undefined though processors execute them: loads whose destination is
 * written twice (LDPSW), and should-be-one bits that are not (LDAR).
 */
function isUnpredictable(word: number): boolean {
  const row = DECODER.row(word);
  if (row === undefined) return false;
  const f = extractFields(row, word);
  if (row.name === "LDAR") return f.w !== 31 || f.u !== 31;
  const writesBack = row.name === "LDP_STP_post" || row.name === "LDP_STP_pre";
  return row.name.startsWith("LDP_STP") && f.o === 1 &&
    (f.t === f.u || (writesBack && f.n !== 31 && (f.n === f.t || f.n === f.u)));
}

/** The disassembler's disagreements: none is an empty list. UNDEFINED words are not compared. */
export function disagreements(lines: Iterable<Listed>): { compared: number; wrong: string[] } {
  const wrong: string[] = [];
  let compared = 0;
  for (const { address, word, text } of lines) {
    const ours = disassemble(word, address);
    if (ours === null) continue;
    compared++;
    if (ours === text || (text.startsWith(".inst") && isUnpredictable(word))) continue;
    wrong.push(`${word.toString(16).padStart(8, "0")}: ${ours} | objdump: ${text}`);
  }
  return { compared, wrong };
}

/** `perRow` random instructions of each row, and as many words of anything. */
export function randomWords(seed: number, perRow: number): number[] {
  const random = new Random(seed);
  const words: number[] = [];
  for (const row of ROWS) {
    for (let i = 0; i < perRow; i++) {
      words.push(randomInstruction(row, random).word, random.u32());
    }
  }
  return words;
}

async function gzip(text: string): Promise<Uint8Array> {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Lines `word<tab>text` of the words from address 0 on, all of them. */
async function record(): Promise<void> {
  const lines = await listing(Uint32Array.from(randomWords(1, 50)));
  const text = lines.map((l) => `${l.word.toString(16)}\t${l.text}\n`).join("");
  const path = new URL("../../../fixtures/vectors/disassembly.tsv.gz", import.meta.url);
  await Deno.writeFile(path, await gzip(text));
  console.log(`${lines.length} words`);
}

if (import.meta.main) await record();
