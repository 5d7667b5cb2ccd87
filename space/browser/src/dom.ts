/** The element with an id; the page has it. */
export function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}.`);
  return found as T;
}

/** A new element. */
export function make<K extends keyof HTMLElementTagNameMap>(
  name: K,
  properties: Partial<HTMLElementTagNameMap[K]>,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** A small picture out of a file; nothing where the browser cannot show it. */
export function image(file: Blob): HTMLImageElement {
  const made = make("img", { alt: "", src: URL.createObjectURL(file) });
  made.onload = () => URL.revokeObjectURL(made.src);
  made.onerror = () => made.remove();
  return made;
}
