// What the words of the page mean.

import { useHref } from "./view";

const WORDS: [string, string][] = [
  ["stage", "a run of blocks at one resolution; stage 0 is the stem, before the first block"],
  [
    "layer1.0",
    "the first block of stage 1: torch calls the lists of blocks layer1 to layer4, and counts from 0. " +
      "The stem has no list, so stage 1 is layer1",
  ],
  ["bottleneck", "a block of three convolutions: 1\u00d71 to fewer channels, 3\u00d73, 1\u00d71 to four times as many"],
  ["identity", "a shortcut that carries the input of a block unchanged"],
  ["projection", "a shortcut through a 1\u00d71 convolution and a norm, where the shape changes"],
  ["output", "channels \u00d7 height \u00d7 width of the map"],
  ["unit", "one place of a map: a row and a column"],
  ["MACs", "multiply-adds of convolutions and linear layers for one image; 1 MAC = 2 FLOPs"],
  ["activations", "the elements that convolutions and linear layers put out for one image"],
  ["field", "receptive field: the side of the square of input pixels that one unit sees"],
  ["stride", "input pixels between neighbouring units; of a layer, the step of its window"],
];

/** What the notes are. */
export function NotesWords({ capital = false }: { capital?: boolean }) {
  return <>{capital ? "The" : "the"} notes, study notes on ResNet-50 that resnetkit follows,</>;
}

export function Words() {
  const href = useHref();
  return (
    <details class="glossary">
      <summary>What the words mean</summary>
      <dl>
        {WORDS.map(([word, meaning]) => (
          <div key={word}>
            <dt>{word}</dt>
            <dd>{meaning}</dd>
          </div>
        ))}
        <div>
          <dt>layers by the paper, by the notes</dt>
          <dd>
            two ways of counting: He et al. 2015, and study notes on ResNet-50 that resnetkit
            follows; see <a href={href({ tab: "count" })}>Counting layers</a>
          </dd>
        </div>
      </dl>
    </details>
  );
}
