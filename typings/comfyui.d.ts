// What the page serves to extensions, and what its types package (older than the page) leaves out.
declare module "comfyui" {
  import type { ComfyApi, ComfyApp, ComfyExtension, DOMWidget, DOMWidgetOptions } from "@comfyorg/comfyui-frontend-types";

  type LGraphNode = Parameters<NonNullable<ComfyExtension["nodeCreated"]>>[0];
  type Output = Record<string, unknown[] | undefined>;

  export type Node = Omit<LGraphNode, "constructor"> & {
    constructor: { comfyClass?: string };
    hideOutputImages?: boolean;
    onExecuted?(output: Output): void;
    addDOMWidget<T extends HTMLElement>(
      name: string, type: string, element: T, options: DOMWidgetOptions<string>,
    ): DOMWidget<T, string>;
  };

  export interface Extension extends Omit<ComfyExtension, "nodeCreated"> {
    nodeCreated?(node: Node): void;
    onNodeOutputsUpdated?(outputs: Record<string, Output>): void;
  }

  export const app: Omit<ComfyApp, "registerExtension"> & { registerExtension(extension: Extension): void };
  export const api: ComfyApi;
}

declare module "*/scripts/app.js" {
  export { app } from "comfyui";
}
declare module "*/scripts/api.js" {
  export { api } from "comfyui";
}
