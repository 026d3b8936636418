import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const server = process.env.TREADLE_SERVER ?? "http://127.0.0.1:8484";

export default defineConfig({
  base: "./", // the page may lie under any path, and in a file
  plugins: [react()],
  build: {
    outDir: "../src/treadle/monitor/static",
    emptyOutDir: true,
    target: "es2022",
    cssTarget: "chrome123", // light-dark() as it is
    assetsInlineLimit: 0, // the CSP allows no data: scripts
    chunkSizeWarningLimit: 2000, // elk
    modulePreload: { polyfill: false },
  },
  worker: { format: "es" },
  test: { css: true }, // a test reads the tokens
  server: { proxy: { "/api": { target: server, ws: true } } },
});
