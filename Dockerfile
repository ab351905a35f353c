# The project with its pipelines, on the Node that it is tested with. Pipelines are run as they are written.
FROM node:26.1.0-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build
# What pipelines import beside Millrace goes along with what Millrace needs.
RUN mv node_modules/zod /zod \
  && npm ci --omit=dev --omit=optional --omit=peer --ignore-scripts \
  && mv /zod node_modules/zod

FROM node:26.1.0-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY --from=build /app/bin bin
COPY pipelines pipelines
# Millrace is found by its own name, as in a project that depends on it.
RUN install -d -o node -g node /var/lib/millrace
USER node
VOLUME /var/lib/millrace
EXPOSE 9464
ENTRYPOINT ["node", "bin/millrace.js"]
CMD ["run", "--help"]
