/// <reference types="vitest/config" />
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The gateway serves what is built here; in development Vite does, and passes the API on.
const API = process.env.FIREFRONT_URL ?? "http://127.0.0.1:8000";

export default defineConfig({
  plugins: [react(), tailwindcss()],
  base: "/",
  build: {
    outDir: "../src/firefront/gateway/static/console",
    emptyOutDir: true,
    assetsInlineLimit: 0, // a data: script or font would need a weaker policy
    modulePreload: { polyfill: false }, // it is an inline script
    target: "es2023",
  },
  server: {
    proxy: { "/v1": API, "/health": API, "/tokenize": API, "/docs": API, "/openapi.json": API },
  },
  resolve: { alias: { "@": new URL("./src", import.meta.url).pathname } },
  test: { include: ["src/**/*.test.{ts,tsx}"] },
});
