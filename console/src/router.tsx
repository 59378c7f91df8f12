import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
} from "@tanstack/react-router";
import { Frame } from "./frame/frame";
import { NotFound } from "./frame/not-found";
import { Playground } from "./playground/playground";

/** The rooms' paths. `gateway/console.py` serves the page under the same ones. */
const root = createRootRoute({ component: Frame, notFoundComponent: NotFound });

const routes = [
  createRoute({ getParentRoute: () => root, path: "/", component: Playground }),
  createRoute({
    getParentRoute: () => root,
    path: "/compare",
    component: lazyRouteComponent(() => import("./compare/compare"), "Compare"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/completion",
    component: lazyRouteComponent(() => import("./completion/completion"), "Completion"),
  }),
];

export const router = createRouter({
  routeTree: root.addChildren(routes),
  defaultPreload: "intent",
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
