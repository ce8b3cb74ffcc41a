import assert from "node:assert/strict";
import fc from "fast-check";
import { fit, glyph, pad, textWidth, visible } from "../../../src/dashboard/terminal/glyph.ts";

Deno.test("no code point is shown as a control or format character", () => {
  for (let cp = 0; cp < 0x110000; cp++) {
    const shown = visible(cp);
    if (shown === cp && cp > 0x7e && cp < 0x3000) {
      assert.doesNotMatch(String.fromCodePoint(cp), /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
    }
    if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || (cp >= 0xd800 && cp < 0xe000)) {
      assert.notEqual(shown, cp);
      assert.notEqual(shown, 0);
    }
  }
});

Deno.test("escape is drawn as its control picture, combining marks take no cell", () => {
  assert.equal(glyph(0x1b), 0x241b);
  assert.equal(glyph(0x9b), 0xfffd);
  assert.equal(glyph(0x202e), 0);
  assert.equal(textWidth("e\u0301漢\x1b"), 4);
});

Deno.test("fit and pad take exactly the cells they are given", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), fc.integer({ min: 0, max: 20 }), (s, w) => {
    assert.ok(textWidth(fit(s, w)) <= w);
    assert.equal(textWidth(pad(s, w)), w);
    assert.equal(textWidth(pad(s, w, "right")), w);
  }));
  assert.equal(fit("interrupt", 5), "inte…");
  assert.equal(pad("7", 3, "right"), "  7");
});
