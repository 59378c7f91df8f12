import { KEY_VARIABLE, type Printable, type Program, type Target } from "./program";

const PATHS = { chat: "/v1/chat/completions", completion: "/v1/completions" } as const;

/** The request as curl sends it. JSON holds no bare line, so nothing in it can end the text early. */
export function curlProgram({ kind, body }: Printable, target: Target): Program {
  const sent = target.streams ? { ...body, stream: true } : body;
  const lines = [
    `curl ${target.streams ? "-N " : ""}${target.origin}${PATHS[kind]} \\`,
    "  -H 'content-type: application/json' \\",
    ...(target.needsKey ? [`  -H "authorization: Bearer $${KEY_VARIABLE}" \\`] : []),
    "  --data-binary @- <<'JSON'",
    JSON.stringify(sent, null, 2),
    "JSON",
    "",
  ];
  return { name: "curl", language: "bash", install: "", code: lines.join("\n"), missing: [] };
}
