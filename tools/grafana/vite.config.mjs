// Serves the built page, and Prometheus (address in $PROMETHEUS) beside it under /prom.
export default {
  esbuild: { jsx: 'automatic' },
  build: { outDir: './out', emptyOutDir: true, chunkSizeWarningLimit: 1e5 },
  preview: {
    host: '127.0.0.1',
    port: Number(process.env.PORT),
    strictPort: true,
    proxy: { '/prom': { target: process.env.PROMETHEUS, rewrite: path => path.replace(/^\/prom/, '') } },
  },
};
