import { anthropicProgram } from "./anthropic";
import { curlProgram } from "./curl";
import { javascriptProgram } from "./javascript";
import { langchainProgram } from "./langchain";
import type { Printable, Program, Target } from "./program";
import { pythonProgram } from "./python";

/** The request in every language there is for it. */
export function programsOf(request: Printable, target: Target): Program[] {
  const programs = [
    curlProgram(request, target),
    pythonProgram(request, target),
    javascriptProgram(request, target),
  ];
  if (request.kind === "completion") return programs;
  return [
    ...programs,
    anthropicProgram(request.body, target),
    langchainProgram(request.body, target),
  ];
}
