/**
 * What a result says about itself, in its XMP packet: that its colours were generated, by what and
 * with which settings (IPTC Photo Metadata Standard 2025.1), as pipeline_colorize/photo/__init__.py does.
 */

const SOURCE_TYPE =
  "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";
const SYSTEM = "pipeline-colorize";

export type Settings = Record<string, string | number | undefined>;

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** An XMP packet with the mark; settings without a value are left out. */
export function xmpPacket(version: string, settings: Settings): string {
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  const lines = {
    DigitalSourceType: SOURCE_TYPE,
    AISystemUsed: SYSTEM,
    AISystemVersionUsed: version,
    AIPromptInformation: given.map(([key, value]) => `${key}=${value}`).join("; "),
  };
  const properties = Object.entries(lines)
    .map(([name, value]) => `<Iptc4xmpExt:${name}>${escape(value)}</Iptc4xmpExt:${name}>`)
    .join("");
  return (
    `<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>` +
    `<x:xmpmeta xmlns:x="adobe:ns:meta/">` +
    `<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">` +
    `<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">` +
    `${properties}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>`
  );
}

const JPEG_XMP = "http://ns.adobe.com/xap/1.0/\0";

/** A JPEG with the packet as its first application segment behind JFIF's. */
export async function markedJpeg(jpeg: Blob, xmp: string): Promise<Blob> {
  const body = new TextEncoder().encode(JPEG_XMP + xmp);
  const segment = new Uint8Array(4 + body.length);
  new DataView(segment.buffer).setUint32(0, 0xffe10000 + body.length + 2);
  segment.set(body, 4);
  const head = new DataView(await jpeg.slice(0, 6).arrayBuffer());
  // The start of image is two bytes; a JFIF segment, where there is one, comes first.
  const place = head.getUint16(2) === 0xffe0 ? 4 + head.getUint16(4) : 2;
  return new Blob([jpeg.slice(0, place), segment, jpeg.slice(place)], { type: "image/jpeg" });
}
