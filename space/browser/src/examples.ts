/** Photographs in colour, whose colours come to what is the same in the photograph. */

import { element, image, make } from "./dom";
import type { Example, Facts } from "./engine";

export class Examples {
  private all: Example[] = [];
  private most = 0;
  private readonly input = element<HTMLInputElement>("example");

  constructor(private readonly onChange: () => void) {
    this.input.addEventListener("change", () => {
      const files = [...(this.input.files ?? [])].slice(0, this.most - this.all.length);
      this.input.value = ""; // so that the same one can be chosen again
      if (files.length) this.set([...this.all, ...files.map((file) => ({ id: `${Date.now()}-${Math.random()}`, file }))]);
    });
  }

  get list(): Example[] {
    return this.all;
  }

  describe({ hints, references = 0 }: Facts): void {
    this.most = references;
    element("examples-given").hidden = !hints || !references;
  }

  show(all: Example[]): void {
    this.all = all;
    this.input.disabled = all.length >= this.most;
    element("example-list").replaceChildren(...all.map((one) => this.line(one)));
  }

  private set(all: Example[]): void {
    this.show(all);
    this.onChange();
  }

  private line(one: Example): HTMLLIElement {
    const { name } = one.file;
    const onclick = () => {
      this.set(this.all.filter((other) => other !== one));
      this.input.focus({ preventScroll: true }); // its own button is gone
    };
    const remove = make("button", { type: "button", ariaLabel: `Remove ${name}`, onclick }, "Remove");
    return make("li", {}, image(one.file), make("span", { className: "name" }, name), remove);
  }
}
