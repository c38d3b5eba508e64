// The map itself: Leaflet with a plain coordinate system, drawn on a canvas. Latitude is z, longitude is x, in nodes.
import { ErrorBox, Loading } from "../../components/index.js";
import { colourOf, decimal } from "../../core/format.js";
import { html, useEffect, useLibrary, useRef, useState } from "../../core/html.js";

const CLICK_PX = 12;

/**
 * `heat`: {places, cell, bounds}; `recent`: memories that are drawn as points; `circle`: {x, z, r} or null;
 * `onCircle(circle)`: a place was clicked or a circle was drawn.
 */
export function MapCanvas({ heat, recent, circle, onCircle }) {
  const box = useRef(null);
  const map = useRef(null);
  const latest = useRef(onCircle);
  latest.current = onCircle;
  const { loaded: L, error } = useLibrary("leaflet", "L");
  const [drawing, setDrawing] = useState(false);
  const [at, setAt] = useState(null);
  useEffect(() => {
    if (!L) return undefined;
    // Leaflet's own controls write markup, which the policy of the page forbids: the buttons below replace them.
    const made = L.map(box.current, {
      crs: L.CRS.Simple, preferCanvas: true, attributionControl: false, zoomControl: false,
      minZoom: -8, maxZoom: 5, zoomSnap: 0.5, zoomAnimation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    });
    map.current = made;
    fit(made, L, heat);
    made.on("mousemove", (event) => setAt(event.latlng));
    made.on("click", ({ latlng }) => {
      if (made.drawing) return;
      const radius = CLICK_PX / made.getZoomScale(made.getZoom(), 0);
      latest.current({ x: tenth(latlng.lng), z: tenth(latlng.lat), r: tenth(Math.max(radius, 1)) });
    });
    const resized = new ResizeObserver(() => made.invalidateSize());
    resized.observe(box.current);
    return () => {
      resized.disconnect();
      made.remove();
      map.current = null;
    };
  }, [L]);
  // Another agent, type or time may have its memories elsewhere.
  useEffect(() => {
    if (map.current && !inSight(map.current, heat)) fit(map.current, L, heat);
  }, [heat]);
  useLayer(L, map, [heat], () => {
    const most = Math.log1p(heat.places[0]?.count ?? 1);
    return heat.places.map(({ x, z, count }) => {
      const corners = [[z, x], [z + heat.cell, x + heat.cell]];
      return L.rectangle(corners, { stroke: false, fillColor: "#3f7fdb", fillOpacity: 0.15 + (0.8 * Math.log1p(count)) / most, interactive: false });
    });
  });
  useLayer(L, map, [recent], () =>
    recent.filter(({ pos }) => pos?.x !== undefined && pos?.z !== undefined).map((each) =>
      L.circleMarker([each.pos.z, each.pos.x], { radius: 4 + each.importance / 3, weight: 2, color: "#fff", fillColor: colourOf(each.type), fillOpacity: 1, interactive: false })));
  useLayer(L, map, [circle?.x, circle?.z, circle?.r], () =>
    circle ? [L.circle([circle.z, circle.x], { radius: circle.r, color: "#d9822b", weight: 2, fillOpacity: 0.12, interactive: false })] : []);
  useEffect(() => (L && drawing ? drawn(L, map.current, (found) => {
    setDrawing(false);
    latest.current(found);
  }) : undefined), [L, drawing]);
  return html`
    <div class="row">
      <button type="button" aria-pressed=${drawing} onClick=${() => setDrawing(!drawing)}>Draw a circle</button>
      <button type="button" onClick=${() => map.current?.zoomIn()}>Closer</button>
      <button type="button" onClick=${() => map.current?.zoomOut()}>Wider</button>
      <button type="button" onClick=${() => map.current && fit(map.current, L, heat)}>All</button>
      <span class="muted mono">${at ? `x ${decimal(at.lng, 0)}, z ${decimal(at.lat, 0)}` : ""}</span>
    </div>
    <div ref=${box} class="map ${drawing ? "drawing" : ""}" role="application" aria-label="Map of memories: arrows move it, plus and minus change the scale"></div>
    ${error ? html`<${ErrorBox} error=${error} />` : !L && html`<${Loading} label="Loading the map" />`}`;
}

const tenth = (value) => Math.round(value * 10) / 10;

function fit(map, L, { bounds, cell }) {
  const { x, z } = bounds;
  map.fitBounds(L.latLngBounds([z[0] - cell, x[0] - cell], [z[1] + cell, x[1] + cell]), { animate: false });
}

/** Whether a cell with memories lies in what the map shows. */
function inSight(map, { places, cell }) {
  const seen = map.getBounds();
  return places.some(({ x, z }) => seen.intersects([[z, x], [z + cell, x + cell]]));
}

/** Keep a layer of the map with what `make` returns, made anew when one of `values` changes. */
function useLayer(L, map, values, make) {
  useEffect(() => {
    if (!L || !map.current) return undefined;
    const layer = L.layerGroup(make()).addTo(map.current);
    return () => {
      if (map.current) layer.remove();
    };
  }, [L, ...values]);
}

/** Let the next drag draw a circle; `done` gets it. Returns what ends that. */
function drawn(L, map, done) {
  let centre = null;
  let shown = null;
  map.drawing = true;
  map.dragging.disable();
  const radius = (point) => Math.hypot(point.lng - centre.lng, point.lat - centre.lat);
  const down = ({ latlng }) => {
    centre = latlng;
    shown = L.circle(latlng, { radius: 0, color: "#d9822b", weight: 2, interactive: false }).addTo(map);
  };
  const move = ({ latlng }) => shown?.setRadius(radius(latlng));
  const up = ({ latlng }) => {
    if (centre && radius(latlng) > 0) done({ x: tenth(centre.lng), z: tenth(centre.lat), r: Math.max(0.1, tenth(radius(latlng))) });
  };
  map.on({ mousedown: down, mousemove: move, mouseup: up });
  return () => {
    map.off({ mousedown: down, mousemove: move, mouseup: up });
    shown?.remove();
    map.dragging.enable();
    // The click that ends the drag comes after it.
    setTimeout(() => {
      map.drawing = false;
    }, 0);
  };
}
