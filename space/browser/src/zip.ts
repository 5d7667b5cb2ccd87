/** Files in one ZIP archive. */

import { downloadZip } from "client-zip";

/** An archive; a name that is there already gets a number. */
export function zip(files: { file: Blob; name: string }[]): Promise<Blob> {
  const taken = new Set<string>();
  const entries = files.map(({ file, name }) => ({ input: file, name: freeName(name, taken) }));
  return downloadZip(entries).blob();
}

/** A name that is not in `taken`, and is from now on. */
function freeName(name: string, taken: Set<string>): string {
  const [, stem, ending = ""] = /^(.*?)(\.[^.]*)?$/.exec(name)!;
  let free = name;
  for (let number = 2; taken.has(free.toLowerCase()); number++) free = `${stem}-${number}${ending}`;
  taken.add(free.toLowerCase());
  return free;
}
