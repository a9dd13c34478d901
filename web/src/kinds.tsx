// The two kinds of blocks side by side, with what they cost.

import { BlockGraph } from "./block_graph";
import type { Place } from "./tree";
import { pretty, times, useView } from "./view";
import { grouped } from "./walk";
import { treeOf } from "./walks";

export function Kinds() {
  const { data } = useView();
  const blocks = data.blocks.map(({ network, path }) => {
    const { channels, size, name } = data.networks[network]!;
    const place = treeOf(data, network, [channels, size, size]).places.get(path)!;
    return { name, place };
  });
  const [basic, bottleneck, wide] = blocks;
  return (
    <div class="kinds">
      <h2>The two kinds of blocks</h2>
      <p class="lead">
        The basic block has two 3x3 convolutions (ResNet-18 and 34). The bottleneck goes down to a
        quarter of the channels with a 1x1, works there with a 3x3, and goes up again with a 1x1
        (ResNet-50, 101 and 152). So its 3x3 sees four times fewer channels than the block.
      </p>
      <div class="kind-two">
        {[basic!, bottleneck!].map(({ name, place }) => (
          <section key={name} aria-label={`${place.path} of ${name}`}>
            <h3>{pretty(place.what)}</h3>
            <p class="note">
              {place.path} of {name}
            </p>
            <BlockGraph place={place} still />
          </section>
        ))}
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="costs of the blocks">
        <table>
          <caption>
            <span class="titled">
              What they cost
              <span class="legend">
                a convolution's MACs at one position of its output are its weights
              </span>
            </span>
          </caption>
          <thead>
            <tr>
              <th scope="col">block</th>
              <th scope="col" class="number">
                channels
              </th>
              <th scope="col">weights of its convolutions</th>
              <th scope="col" class="number">
                MACs a position
              </th>
              <th scope="col" class="number">
                parameters
              </th>
              <th scope="col" class="number">
                map
              </th>
              <th scope="col" class="number">
                MACs
              </th>
            </tr>
          </thead>
          <tbody>
            {blocks.map(({ name, place }) => (
              <tr key={name + place.path}>
                <th scope="row">
                  {pretty(place.what)} <span class="what">{`${place.path} of ${name}`}</span>
                </th>
                <td class="number">{place.output?.[0]}</td>
                <td>
                  {weights(place).map(([words, layer]) => (
                    <code key={layer} class="block">
                      {layer}: {words}
                    </code>
                  ))}
                </td>
                <td class="number">{grouped(positionMacs(place))}</td>
                <td class="number">{grouped(place.parameters)}</td>
                <td class="number">{times(place.output)}</td>
                <td class="number">{grouped(place.macs)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p>
        The bottleneck works on {bottleneck!.place.output?.[0]} channels for about the price of the
        basic block on {basic!.place.output?.[0]}: {grouped(positionMacs(bottleneck!.place))} MACs
        a position against {grouped(positionMacs(basic!.place))}. A basic block on{" "}
        {wide!.place.output?.[0]} channels takes {grouped(positionMacs(wide!.place))},{" "}
        {Math.round(positionMacs(wide!.place) / positionMacs(bottleneck!.place))} times as many.
      </p>
    </div>
  );
}

const convolutions = (place: Place) => place.rows.filter((row) => row.layer.perOutput);

const weights = (place: Place): [string, string][] =>
  convolutions(place).map((row) => [row.layer.parametersFormula ?? "", row.layer.name]);

const positionMacs = (place: Place): number =>
  convolutions(place).reduce(
    (all, row) => all + (row.layer.perOutput ?? 0) * (row.layer.channels ?? 0),
    0,
  );
