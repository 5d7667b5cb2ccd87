/** Photographs that are chosen, dropped, pasted, or taken out of the examples. */

import { element, make } from "./dom";
import { complain, explain } from "./shell";

export type OnFiles = (files: File[]) => void;

interface Example {
  file: string;
  title: string;
  author: string;
  date: string;
}

/** Says where what was dropped or pasted holds no file. */
function take(files: Iterable<File> | undefined, onFiles: OnFiles): void {
  const all = [...(files ?? [])];
  if (all.length) onFiles(all);
  else complain("That is not a picture file. Save the picture, then choose it here.");
}

export function setUpFiles(onFiles: OnFiles): void {
  for (const id of ["file", "more", "clip"]) {
    const file = element<HTMLInputElement>(id);
    file.addEventListener("change", () => {
      if (file.files?.length) onFiles([...file.files]);
      file.value = ""; // so that the same one can be chosen again
    });
  }
  document.addEventListener("paste", ({ clipboardData, target }) => {
    const files = clipboardData?.files;
    const isField = target instanceof HTMLInputElement && target.type === "number";
    if (files?.length || !isField) take(files, onFiles); // a number can be pasted there
  });
  const setDragging = (value: boolean) => document.body.classList.toggle("dragging", value);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    setDragging(event.dataTransfer?.types.includes("Files") ?? false);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) setDragging(false); // it left the page, not only one of its parts
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    setDragging(false);
    take(event.dataTransfer?.files, onFiles);
  });
}

async function openExample(name: string, onFiles: OnFiles): Promise<void> {
  try {
    const response = await fetch(`examples/${name}`);
    if (!response.ok) throw new Error(`status ${response.status}`);
    const blob = await response.blob();
    onFiles([new File([blob], name, { type: blob.type })]);
  } catch (error) {
    explain(error, `“${name}” could not be loaded`);
  }
}

export async function setUpExamples(onFiles: OnFiles): Promise<void> {
  const list: Example[] = await (await fetch("examples/examples.json")).json();
  element("examples").append(
    ...list.map(({ file, title, author, date }) => {
      const image = make("img", { loading: "lazy", src: `examples/${file}`, alt: "" });
      const credit = make("small", {}, `${author}, ${date}`);
      const onclick = () => void openExample(file, onFiles);
      return make("li", {}, make("button", { type: "button", onclick }, image, make("span", {}, title), credit));
    }),
  );
  element("try").hidden = list.length === 0;
}
