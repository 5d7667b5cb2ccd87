/** Taking a picture: with a phone's own camera, else through the browser. */

import { element } from "./dom";

export type OnPicture = (file: Blob, name: string) => void;

export function setUpCamera(onPicture: OnPicture, complain: (text: string) => void): void {
  const button = element<HTMLButtonElement>("camera");
  const capture = element<HTMLInputElement>("capture");
  const isPhone = matchMedia("(pointer: coarse)").matches;
  button.hidden = !isPhone && !navigator.mediaDevices;
  button.addEventListener("click", async () => {
    if (isPhone) return capture.click();
    complain("");
    button.disabled = true; // while the browser asks whether it may
    const stream = await openCamera();
    button.disabled = false;
    if (stream) showCamera(stream, onPicture);
    else complain("The camera cannot be used: there is none, or the page was not allowed to.");
  });
  capture.addEventListener("change", () => {
    const file = capture.files?.[0];
    if (file) onPicture(file, file.name);
    capture.value = "";
  });
}

async function openCamera(): Promise<MediaStream | undefined> {
  const video = { width: { ideal: 4096 }, height: { ideal: 4096 } };
  return navigator.mediaDevices.getUserMedia({ video }).catch(() => undefined);
}

/** The live picture; the camera is switched off when it is closed, however that is done. */
function showCamera(stream: MediaStream, onPicture: OnPicture): void {
  const dialog = element<HTMLDialogElement>("camera-dialog");
  const video = element<HTMLVideoElement>("video");
  const shoot = element<HTMLButtonElement>("shoot");
  shoot.disabled = true; // until there is something to take
  video.onloadeddata = () => {
    shoot.disabled = false;
    shoot.focus();
  };
  dialog.onclose = () => {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  };
  element("cancel").onclick = () => dialog.close();
  shoot.onclick = async () => {
    const picture = await still(video);
    dialog.close();
    if (picture) onPicture(picture, "camera.png");
  };
  video.srcObject = stream;
  dialog.showModal();
}

function still(video: HTMLVideoElement): Promise<Blob | null> {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")!.drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
