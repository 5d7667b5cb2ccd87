/** The page. */

import { createEngine } from "@engine";
import { Album, newItem } from "./album";
import { setUpCamera } from "./camera";
import { element } from "./dom";
import type { PageFacts } from "./engine";
import { Cinema, describeFilms, isFilm } from "./film";
import { setUpExamples, setUpFiles } from "./files";
import { complain, explain, isShown, show, tell } from "./shell";
import { Studio } from "./studio";

declare const __OFFLINE__: boolean; // whether the page works without a network

const engine = createEngine();
let loaded: { model?: string; facts: Promise<PageFacts> } | undefined;

/** Loads what colours need; another model, where one is named. */
function load(model?: string): Promise<PageFacts> {
  if (!loaded || (model && model !== loaded.model)) {
    const facts = engine.load((news) => "text" in news && tell(news.text, news.share), model);
    loaded = { model, facts: facts.then(describe) };
    loaded.facts.catch(() => (loaded = undefined)); // the next photograph tries again
  }
  return loaded.facts;
}

function describe(facts: PageFacts): PageFacts {
  if (loaded) loaded.model = facts.model;
  element("promise").textContent = engine.promise;
  element("facts").textContent = facts.about;
  document.body.dataset["model"] = facts.model;
  album.most = facts.photographs;
  studio.describe(facts);
  describeFilms(facts);
  return facts;
}

function take(given: File[]): void {
  const files = given.filter((file) => !isFilm(file));
  const [film] = given.filter(isFilm);
  if (film && given.length === 1 && !isShown("album")) {
    studio.close();
    void cinema.open(film);
    return;
  }
  cinema.close();
  if (!files.length) complain("Films are coloured one at a time, and not among photographs.");
  else if (files.length === 1 && !isShown("album")) void studio.open(newItem(files[0]!));
  else {
    complain(film ? "Films are coloured one at a time, so they were left out." : "");
    album.add(files, 0);
  }
}

const studio = new Studio(engine, load);
const cinema = new Cinema(engine, () => load());
const album = (studio.album = new Album(engine, (item) => void studio.open(item), () => studio.leave()));

element("leave").addEventListener("click", () => {
  album.clear();
  cinema.close();
  studio.close();
});
show("start");
setUpFiles(take);
setUpCamera((file, name) => take([new File([file], name, { type: file.type })]), complain);
void setUpExamples(take).catch(() => undefined);
if (__OFFLINE__) void navigator.serviceWorker?.register("sw.js").catch(() => undefined); // no https: no offline use
load().then(
  () => tell("Ready."),
  (error: unknown) => explain(error, "What imagines the colours could not be loaded"),
);
