/** Taking a picture: with a phone's own camera, else through the browser. */

import { element } from "./dom";

export function setUpCamera(onPicture: (file: Blob, name: string) => void): void {
  const button = element<HTMLButtonElement>("camera");
  const capture = element<HTMLInputElement>("capture");
  const isPhone = matchMedia("(pointer: coarse)").matches;
  button.hidden = !isPhone && !navigator.mediaDevices;
  button.addEventListener("click", () => (isPhone ? capture.click() : openCamera(onPicture)));
  capture.addEventListener("change", () => {
    const file = capture.files?.[0];
    if (file) onPicture(file, file.name);
    capture.value = "";
  });
}

async function openCamera(onPicture: (file: Blob, name: string) => void): Promise<void> {
  const dialog = element<HTMLDialogElement>("camera-dialog");
  const video = element<HTMLVideoElement>("video");
  const stream = await navigator.mediaDevices
    .getUserMedia({ video: { width: { ideal: 4096 }, height: { ideal: 4096 } } })
    .catch(() => undefined);
  if (!stream) {
    element("status").textContent = "No camera can be used here.";
    return;
  }
  video.srcObject = stream;
  dialog.addEventListener("close", () => stream.getTracks().forEach((track) => track.stop()), {
    once: true,
  });
  element("cancel").onclick = () => dialog.close();
  element("shoot").onclick = async () => {
    const picture = await still(video);
    dialog.close();
    if (picture) onPicture(picture, "camera.png");
  };
  dialog.showModal();
}

function still(video: HTMLVideoElement): Promise<Blob | null> {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")!.drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
