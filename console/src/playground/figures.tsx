import type { ReactNode } from "react";
import { dollars, rate, seconds } from "@/components/format";
import type { Figures } from "./turns";

/** What an answer took: first token, speed, tokens, time, cost. Live while it is written. */
export function FiguresLine({ figures }: { figures: Figures }) {
  const { ttft_s, tokens_s, tokens_in, tokens_cached, tokens_out, total_s, cost } = figures;
  return (
    <dl
      className="flex flex-wrap gap-x-4 gap-y-1 text-xs text-soft tabular-nums"
      data-testid="figures"
    >
      {ttft_s !== null && <Figure name="First token">{seconds(ttft_s)}</Figure>}
      {tokens_s !== null && <Figure name="Speed">{rate(tokens_s)}</Figure>}
      {tokens_out !== null && <Figure name="Out">{tokens_out} tokens</Figure>}
      {tokens_in !== null && (
        <Figure name="In">
          {tokens_in} tokens{tokens_cached ? `, ${tokens_cached} cached` : ""}
        </Figure>
      )}
      {total_s !== null && <Figure name="Time">{seconds(total_s)}</Figure>}
      {cost !== null && <Figure name="Cost">{dollars(cost)}</Figure>}
    </dl>
  );
}

function Figure({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className="flex gap-1">
      <dt>{name}</dt>
      <dd className="font-medium text-strong">{children}</dd>
    </div>
  );
}
