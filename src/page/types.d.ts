// Types of the modules that all pages have. Checked by tests/browser, not served.

/** What may stand in an element. */
type Child = string | number | Node | null | undefined | false;

/** The value of an attribute; a function is a listener. */
type Attribute = string | number | boolean | null | undefined | ((event: any) => void);

type MakeElement = <K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes?: Record<string, Attribute>,
  ...children: (Child | Child[])[]
) => HTMLElementTagNameMap[K];

type MakeSvg = (tag: string, attributes: Record<string, string | number>, ...children: Node[]) => SVGElement;

type Keyed = <T>(
  parent: Element,
  items: T[],
  key: (item: T) => string,
  make: (item: T) => HTMLElement,
  update?: (node: HTMLElement, item: T) => void,
) => void;
