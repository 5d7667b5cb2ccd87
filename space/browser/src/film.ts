/** A short film: it is coloured on a server, and plays in the page. */

import { element } from "./dom";
import { type Download, type Engine, type Facts, Refused, type Report } from "./engine";
import { complain, explain, give, setStop, show, tell } from "./shell";

const ENDINGS = /\.(3gp|avi|dv|flv|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|mxf|ogv|ts|vob|webm|wmv)$/i;
const ELSEWHERE =
  "Films cannot be coloured inside the browser. The command colorize does it, and so does this page where a server gives it out.";

export const isFilm = ({ type, name }: File) => type.startsWith("video/") || ENDINGS.test(name);

/** What is done with films here, for the beginning of the page. */
export function describeFilms({ film_seconds: seconds }: Facts): void {
  element("of-films").hidden = !seconds;
  element("film-help").textContent = seconds
    ? `black and white, up to ${seconds} seconds`
    : ELSEWHERE;
}

export class Cinema {
  private readonly movie = element<HTMLVideoElement>("movie");
  private readonly before = element<HTMLButtonElement>("movie-before");
  private file?: File;
  private made?: Download;
  private seed = 0;
  private isSaved = true;
  private turn = 0; // rises with every film and every colouring

  constructor(
    private readonly engine: Engine,
    private readonly load: () => Promise<Facts>,
  ) {
    element("save-movie").addEventListener("click", () => this.save());
    element("recolor-movie").addEventListener("click", () => void this.color(this.seed + 1));
    element("close-movie").addEventListener("click", () => {
      this.close();
      complain("");
      tell("");
      show("start");
    });
    this.before.addEventListener("click", () => this.see(this.before.ariaPressed !== "true"));
    this.movie.addEventListener("error", () => this.cannotPlay());
    window.addEventListener("beforeunload", (event) => {
      if (!this.isSaved) event.preventDefault();
    });
  }

  /** Shows a film as it is, and gives it colours without being asked. */
  async open(file: File): Promise<void> {
    this.close();
    complain("");
    show("cinema");
    this.file = file;
    this.see(true);
    await this.color(0);
  }

  /** Leaves off, and keeps nothing. */
  close(): void {
    if (!this.file) return;
    this.turn++;
    this.engine.stop();
    setStop(undefined);
    this.file = this.made = undefined;
    this.isSaved = true;
    this.unload();
  }

  private async color(seed: number): Promise<void> {
    const [mine, began, file] = [++this.turn, performance.now(), this.file!];
    const report: Report = (news) => mine === this.turn && "text" in news && tell(news.text, news.share);
    complain("");
    setStop(() => this.engine.stop());
    this.showState();
    try {
      await this.load();
      if (!this.engine.colorizeFilm) throw new Refused(ELSEWHERE);
      const made = await this.engine.colorizeFilm(file, seed, report);
      if (mine !== this.turn) return;
      [this.made, this.seed, this.isSaved] = [made, seed, false];
      this.see(false);
      tell(`Done in ${((performance.now() - began) / 1000).toFixed(0)} seconds.`);
    } catch (error) {
      if (mine !== this.turn) return;
      explain(error, `“${file.name}” could not be coloured`);
    }
    setStop(undefined);
    this.showState();
  }

  /** Plays the film as it was, or with its colours, from where it is. */
  private see(isBefore: boolean): void {
    const { currentTime } = this.movie;
    const film = isBefore ? this.file : this.made?.file;
    this.unload();
    this.before.ariaPressed = String(isBefore);
    if (!film) return;
    this.movie.hidden = false;
    this.movie.src = URL.createObjectURL(film);
    this.movie.currentTime = currentTime;
  }

  private unload(): void {
    if (!this.movie.src) return;
    URL.revokeObjectURL(this.movie.src);
    this.movie.removeAttribute("src");
    this.movie.load();
  }

  /** Browsers do not know all the kinds that the server reads; what it makes they know. */
  private cannotPlay(): void {
    if (this.before.ariaPressed === "true") this.movie.hidden = true;
  }

  private showState(): void {
    const isBusy = document.body.hasAttribute("data-busy");
    const button = (id: string) => element<HTMLButtonElement>(id);
    button("save-movie").disabled = this.before.disabled = !this.made;
    button("recolor-movie").disabled = isBusy;
  }

  private save(): void {
    give(this.made!.file, this.made!.name);
    this.isSaved = true;
  }
}
