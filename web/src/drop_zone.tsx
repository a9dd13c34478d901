// Where pictures are chosen, or dropped.

import { useState } from "preact/hooks";

export function DropZone({ take }: { take: (files: File[]) => void }) {
  const [over, setOver] = useState(false);
  return (
    <label
      class={over ? "over" : ""}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        take([...(event.dataTransfer?.files ?? [])]);
      }}
    >
      Choose pictures, or drop them here
      <input
        type="file"
        accept="image/*"
        multiple
        onChange={(event) => {
          take([...(event.currentTarget.files ?? [])]);
          event.currentTarget.value = "";
        }}
      />
    </label>
  );
}
