// What a program writes for a terminal, as plain text: without colours, and with lines that it
// begins anew (as progress bars do) written over. Pure.

const ESCAPES = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;
// At the end of a piece: what only the next one can tell the meaning of.
const UNFINISHED = /(?:\r|\u001b[^a-zA-Z\u0007]{0,64})$/;
const LONGEST = 10_000; // of a line that can still be written over

export class Plain {
  #held = "";
  #line = ""; // the last line so far

  /** A further piece; `last`: nothing follows. Gives {erase, text}: how many characters to take
   * away at the end of what came before, and what to put there. */
  push(piece, last = false) {
    let text = this.#held + piece;
    const rest = last ? null : UNFINISHED.exec(text);
    this.#held = rest?.[0] ?? "";
    if (rest) text = text.slice(0, rest.index);
    text = text.replace(ESCAPES, "").replace(/\r+\n/g, "\n");
    let erase = 0;
    if (text.includes("\r")) {
      erase = this.#line.length;
      text = (this.#line + text).replace(/\r+$/, "").replace(/[^\n]*\r/g, "");
      this.#line = "";
    }
    this.#line = (this.#line + text).split("\n").at(-1).slice(-LONGEST);
    return { erase, text };
  }
}
