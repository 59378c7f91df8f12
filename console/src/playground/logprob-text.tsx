import { type FocusEvent, memo, type PointerEvent, useState } from "react";
import type { TokenLogprob } from "./turns";

/**
 * An answer token by token, each on a ground that says how sure the model was. Pointing at a token,
 * or going to it with Tab, shows its alternatives.
 */
export function LogprobText({ tokens }: { tokens: readonly TokenLogprob[] }) {
  const [chosen, setChosen] = useState<number | null>(null);
  const choose = (event: PointerEvent | FocusEvent) => {
    const index = (event.target as HTMLElement).dataset.token;
    if (index !== undefined) setChosen(Number(index));
  };
  const token = chosen === null ? undefined : tokens[chosen];
  return (
    <div>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: its tokens take the focus */}
      <div
        className="leading-7 break-words whitespace-pre-wrap"
        onPointerOver={choose}
        onFocus={choose}
      >
        {tokens.map((token, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: tokens are only ever appended
          <Token key={index} index={index} token={token} />
        ))}
      </div>
      <output className="mt-2 block min-h-24 rounded-lg bg-sunken p-3 text-xs">
        {token ? (
          <Alternatives token={token} />
        ) : (
          "Point at a token to see how likely it and its alternatives were."
        )}
      </output>
    </div>
  );
}

const Token = memo(function Token({ token, index }: { token: TokenLogprob; index: number }) {
  const probability = Math.exp(token.logprob);
  const doubt = Math.round((1 - probability) * 70);
  return (
    <span
      tabIndex={0}
      data-token={index}
      className="focus-ring rounded-xs hover:underline"
      style={{ backgroundColor: `color-mix(in srgb, var(--accent) ${doubt / 2}%, transparent)` }}
    >
      {token.token}
    </span>
  );
});

function Alternatives({ token }: { token: TokenLogprob }) {
  const isListed = token.top.some((other) => other.token === token.token);
  const all = isListed ? token.top : [token, ...token.top];
  return (
    <ul className="space-y-1">
      {all.map((other) => {
        const share = Math.exp(other.logprob);
        return (
          <li key={other.token} className="flex items-center gap-2">
            <code className="w-28 shrink-0 truncate">{JSON.stringify(other.token)}</code>
            <meter
              className="h-2 w-32 shrink"
              min={0}
              max={1}
              value={share}
              aria-label="probability"
            />
            <span className="tabular-nums">{(share * 100).toFixed(share < 0.001 ? 3 : 1)} %</span>
            {other.token === token.token && <span className="text-accent">chosen</span>}
          </li>
        );
      })}
    </ul>
  );
}
