// Gives the server more pictures: files, or one from the camera.

import { useEffect, useRef, useState } from "preact/hooks";
import { DropZone } from "../drop_zone.tsx";
import type { Look } from "./look.ts";

/** What the network makes of a picture. Throws an error with the server's reason. */
async function ask(body: Blob, name: string): Promise<Look> {
  const response = await fetch("look", { method: "POST", body });
  const told = await response.json().catch(() => ({ detail: response.statusText }));
  if (!response.ok) throw new Error(String(told.detail).replace("body:", `${name}:`));
  return { ...(told as Look), name };
}

function Camera({ take, stop }: { take: (picture: Blob) => void; stop: (why?: string) => void }) {
  const video = useRef<HTMLVideoElement>(null);
  const [shown, setShown] = useState(false);
  useEffect(() => {
    let stream: MediaStream | null = null;
    let on = true;
    const end = () => stream?.getTracks().forEach((track) => track.stop());
    navigator.mediaDevices
      .getUserMedia({ video: { facingMode: "environment" } })
      .then((found) => {
        stream = found;
        if (!on || !video.current) return end();
        video.current.srcObject = found;
        return video.current.play();
      })
      .catch(() => stop("The camera cannot be used: allow it in the browser, or connect one."));
    return () => {
      on = false;
      end();
    };
  }, []);
  const shoot = (): void => {
    const from = video.current!;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [from.videoWidth, from.videoHeight];
    canvas.getContext("2d")!.drawImage(from, 0, 0);
    canvas.toBlob((blob) => blob && take(blob), "image/jpeg", 0.92);
  };
  return (
    <div class="look-camera">
      <video ref={video} muted playsInline onPlaying={() => setShown(true)} />
      <button type="button" disabled={!shown} onClick={shoot}>
        Take the picture
      </button>
      <button type="button" onClick={() => stop()}>
        Stop the camera
      </button>
    </div>
  );
}

export function Give({ add }: { add: (look: Look) => void }) {
  const [told, tell] = useState("");
  const [camera, setCamera] = useState(false);
  const give = async (pictures: Iterable<{ body: Blob; name: string }>): Promise<void> => {
    const problems: string[] = [];
    for (const { body, name } of pictures) {
      tell(`${name} is on its way through the network\u2026`);
      await ask(body, name).then(add, (error: Error) => problems.push(error.message));
    }
    tell(problems.join(" "));
  };
  return (
    <div class="look-give">
      <DropZone
        take={(files) => void give(files.map((file) => ({ body: file, name: file.name })))}
      />
      {!camera && (
        <button type="button" onClick={() => setCamera(true)}>
          Use the camera
        </button>
      )}
      {camera && (
        <Camera
          take={(body) => void give([{ body, name: "camera" }])}
          stop={(why) => {
            setCamera(false);
            tell(why ?? "");
          }}
        />
      )}
      <p role="status">{told}</p>
    </div>
  );
}
