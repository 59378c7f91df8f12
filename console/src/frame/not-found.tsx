import { Link } from "@tanstack/react-router";

export function NotFound() {
  return (
    <main className="grid h-full place-items-center p-6 text-center">
      <div>
        <h1 className="text-lg font-semibold">There is no such room</h1>
        <p className="mt-1 text-soft">
          Go to the{" "}
          <Link to="/" className="text-accent underline">
            playground
          </Link>
          .
        </p>
      </div>
    </main>
  );
}
