// A mistake: the picture with the map of the predicted class beside that of the true one.

import type { ComponentChildren } from "preact";
import { onOneScale, placeOf, type ByteMap, type Look, type Side } from "./look.ts";

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

function Similar({ side }: { side: Side }) {
  if (!side.near) return <p class="look-quiet">No recognized training picture of {side.label} is known.</p>;
  const { photo, name, similarity, of } = side.near;
  return (
    <div class="mistake-near">
      <img src={photo} alt={`${name}, of the class ${side.label}`} />
      <p class="look-quiet">
        {name}: the most similar of {of} training pictures of {side.label} that are recognized
        (cosine {similarity.toFixed(2)}).
      </p>
    </div>
  );
}

/** `photo` draws the picture with a map over it. */
export function Mistake({ look, photo }: { look: Look; photo: (map: ByteMap) => ComponentChildren }) {
  const { truth, guess } = look.mistake!;
  const mapOf = (side: Side) => look.cams.find((cam) => cam.class === side.class)!;
  const own = [mapOf(guess), mapOf(truth)] as const;
  const shared = onOneScale(own);
  const sides = [
    { side: guess, title: "Taken for" },
    { side: truth, title: "It is" },
  ];
  return (
    <section class="mistake" aria-label={`${truth.label}, taken for ${guess.label}`}>
      {sides.map(({ side, title }, at) => (
        <div class="mistake-side" key={title}>
          <h3>
            {title} {side.label} <span class="look-quiet">{percent(side.probability)}</span>
          </h3>
          {photo(shared[at]!)}
          <p class="look-quiet">
            Speaks most for {side.label} at the {placeOf(own[at]!)}: {own[at]!.low.toPrecision(3)} to{" "}
            {own[at]!.high.toPrecision(3)}.
          </p>
          <Similar side={side} />
        </div>
      ))}
      <p class="look-quiet mistake-note">
        Both maps have one scale of colours. The mean of a map is the class&rsquo;s logit without its
        bias: what is brighter on the left spoke for the mistake.
      </p>
    </section>
  );
}
