/* memories: the memory of workspaces in the fixture: made, filled, punched, and the end that a
   worker moves in its table. Pages are known as one number, up to where they are held without a
   gap, for that is what nobody may go beyond. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define SPAN 65536UL

size_t sim_memory_find(sim_t const *sim, uint64_t ws_id) {
  size_t i = 0;
  while (i < sim->memory.cnt && sim->memory.items[i].ws_id != ws_id) i++;
  return i;
}

sim_memory_t *sim_memory(sim_t *sim, uint64_t ws_id) {
  size_t i = sim_memory_find(sim, ws_id);
  return i < sim->memory.cnt ? &sim->memory.items[i] : NULL;
}

int sim_in_memory(sim_t const *sim, uint64_t ws_id) {
  return sim_memory_find(sim, ws_id) < sim->memory.cnt;
}

static uint64_t paged(uint64_t size, uint64_t page_size) {
  return (size + page_size - 1) / page_size * page_size;
}

void sim_memory_add(sim_t *sim, spec_t const *spec) {
  if (sim->memory.cnt == sim->memory.cap) {
    sim->memory.cap = sim->memory.cap ? sim->memory.cap * 2 : 32;
    sim->memory.items = realloc(sim->memory.items, sim->memory.cap * sizeof(*sim->memory.items));
    assert_non_null(sim->memory.items);
  }
  uint64_t page_size = spec->page_size ? spec->page_size : 4096,
           size = paged(spec->size, page_size);
  sim->memory.items[sim->memory.cnt++] =
      (sim_memory_t){.ws_id = spec->ws_id,
                     .size = size,
                     .page_size = page_size,
                     .max_size = paged(spec->max_size, page_size),
                     .filled = size,
                     .end = size,
                     .used = SIM_SIZE_MIN};
}

static void short_of_pages(sim_t *sim, sim_pending_t const *pending, engine_event_t *event) {
  int status = sim->memory_status ? sim->memory_status : ENGINE_MEMORY_SHORT;

  if (sim->wild) status = ENGINE_MEMORY_SHORT + (int)(sim_random(sim) % 4);
  if (pending->cancelled) status = ENGINE_MEMORY_CANCELLED;
  event->u.memory_made.status = status;
  event->u.memory_made.page_size = 2097152;
  event->u.memory_made.wanted = 512;
  event->u.memory_made.free = 100;
  event->u.memory_made.node = 1;
  event->u.memory_made.hint = "raise nr_hugepages on node 1";
}

void sim_memory_event(sim_t *sim, sim_pending_t const *pending, int fail, engine_event_t *event) {
  spec_t const *spec = &pending->effect.u.memory_make.spec;

  event->kind = ENGINE_EV_MEMORY_MADE;
  event->u.memory_made.ws_id = pending->id;
  event->u.memory_made.status = ENGINE_MEMORY_OK;
  if (fail) {
    short_of_pages(sim, pending, event);
    return;
  }
  sim_memory_add(sim, spec);
  sim_memory_t const *memory = &sim->memory.items[sim->memory.cnt - 1];
  event->u.memory_made.size = memory->size;
  event->u.memory_made.max_size = memory->max_size;
  event->u.memory_made.size_min = SIM_SIZE_MIN;
  event->u.memory_made.page_size = memory->page_size;
  event->u.memory_made.data_max = spec->data_max ? spec->data_max : memory->max_size / 2;
  if (pending->effect.u.memory_make.part_min) event->u.memory_made.data_max = memory->max_size / 2;
  event->u.memory_made.part_max = spec->part_max ? spec->part_max : 64;
  event->u.memory_made.layout_version = 1;
  event->u.memory_made.geometry_hash = 0xabcdef;
}

/* Resizing
 * ------------------------------------------------------------------------------------------------
 */

void sim_resize_begin(sim_t *sim, engine_effect_t const *effect) {
  sim_memory_t const *memory = sim_memory(sim, effect->u.memory_resize.ws_id);
  uint64_t from = effect->u.memory_resize.from, to = effect->u.memory_resize.to;

  if (!memory) sim_broken(sim, "pages of no memory");
  if (from >= to || to > memory->max_size || from % memory->page_size || to % memory->page_size ||
      effect->u.memory_resize.page_size != memory->page_size)
    sim_broken(sim, "pages from %lu to %lu of %lu", from, to, memory->max_size);
  if (effect->kind == ENGINE_FX_MEMORY_FILL &&
      (from > memory->filled || (from < memory->end && !effect->u.memory_resize.keep)))
    sim_broken(sim, "pages are taken from %lu on, held are %lu, used %lu", from, memory->filled,
               memory->end);
  sim_pend(sim, SIM_RESIZED, memory->ws_id, effect);
}

static void resize_done(sim_t *sim, sim_pending_t const *pending, int fail) {
  sim_memory_t *memory = sim_memory(sim, pending->id);
  uint64_t from = pending->effect.u.memory_resize.from, to = pending->effect.u.memory_resize.to;

  if (pending->effect.kind == ENGINE_FX_MEMORY_FILL && !fail)
    memory->filled = to > memory->filled ? to : memory->filled;
  else if ((pending->effect.kind == ENGINE_FX_MEMORY_FILL &&
            !pending->effect.u.memory_resize.keep) ||
           (pending->effect.kind == ENGINE_FX_MEMORY_PUNCH && !fail))
    memory->filled = from < memory->filled ? from : memory->filled;
}

void sim_resized_event(sim_t *sim, sim_pending_t const *pending, int fail, engine_event_t *event) {
  event->kind = ENGINE_EV_MEMORY_RESIZED;
  event->u.memory_resized.ws_id = pending->id;
  event->u.memory_resized.status = ENGINE_MEMORY_OK;
  resize_done(sim, pending, fail);
  if (pending->effect.kind == ENGINE_FX_MEMORY_PUNCH) {
    sim_memory_t const *memory = sim_memory(sim, pending->id);
    event->u.memory_resized.held = memory->filled + memory->stuck;
  }
  if (!fail) return;
  short_of_pages(sim, pending, event);
  if (pending->effect.kind == ENGINE_FX_MEMORY_PUNCH)
    event->u.memory_resized.status = ENGINE_MEMORY_FAILED;
}

/* Moves the end as the worker does, as far as that goes. */
static void move_end(sim_t *sim, sim_memory_t *memory, sim_pending_t const *pending,
                     engine_resized_t *ret_resized) {
  uint64_t to = pending->effect.u.worker_start.resize_to;

  if (pending->effect.u.worker_start.page_bytes != memory->page_size ||
      pending->effect.u.worker_start.size_min != SIM_SIZE_MIN)
    sim_broken(sim, "a resize in other pages or bounds");
  if (sim->wild && sim_chance(sim, 2)) {
    memory->used = paged(sim_random(sim) % (memory->end + 1), memory->page_size);
    memory->used = memory->used < SIM_SIZE_MIN ? memory->page_size : memory->used;
    if (memory->used > memory->end) memory->used = memory->end;
  }
  if (to > memory->end && sim->wild && sim_chance(sim, 10)) {
    ret_resized->why = ENGINE_RESIZED_TABLE;
  } else if (to) {
    sim->grow_cnt += to > memory->end;
    if (to < memory->used) {
      ret_resized->why = ENGINE_RESIZED_USED;
      ret_resized->block_gaddr = memory->used - 64;
      ret_resized->block_size = 64;
      ret_resized->block_tag = 7;
      to = memory->used;
      sim->blocked_cnt++;
    }
    sim->shrink_cnt += to < memory->end;
    if (to > memory->filled) sim_broken(sim, "the end passes its pages");
    memory->end = to;
  }
  ret_resized->size = memory->end;
}

void sim_resize_work(sim_t *sim, sim_pending_t const *pending, engine_event_t *event) {
  sim_memory_t *memory = sim_memory(sim, pending->effect.u.worker_start.ws_id);
  int status = event->u.worker_done.status;
  int maybe = status == ENGINE_WORKER_CRASHED || status == ENGINE_WORKER_KILLED ||
              status == ENGINE_WORKER_GARBAGE || status == ENGINE_WORKER_TIMEOUT ||
              status == ENGINE_WORKER_CANCELLED;
  engine_resized_t resized = {0};

  if (!memory) return; /* removed while it was being killed */
  if (!status || (maybe && sim_chance(sim, 2))) move_end(sim, memory, pending, &resized);
  if (!status) event->u.worker_done.resized = resized;
}

/* The process is killed before the answer. */
void sim_resize_interrupted(sim_t *sim, sim_pending_t const *pending) {
  engine_resized_t resized;
  sim_memory_t *memory;

  if (pending->answer == SIM_RESIZED) resize_done(sim, pending, 0);
  if (pending->answer != SIM_WORKER || pending->effect.u.worker_start.op != ENGINE_OP_RESIZE)
    return;
  memory = sim_memory(sim, pending->effect.u.worker_start.ws_id);
  if (memory) move_end(sim, memory, pending, &resized);
}

void sim_check_sizes(sim_t *sim) {
  for (size_t i = 0; i < sim->memory.cnt; i++) {
    sim_memory_t const *memory = &sim->memory.items[i];
    spec_t const *spec = sim_on_disk(sim, memory->ws_id);
    if (memory->end > memory->filled)
      sim_broken(sim, "%lu ends at %lu, its pages at %lu", memory->ws_id, memory->end,
                 memory->filled);
    if (spec && spec->state == SPEC_READY && spec->size > memory->filled)
      sim_broken(sim, "%lu has %lu bytes on disk, pages for %lu", memory->ws_id, spec->size,
                 memory->filled);
  }
}

/* Starting
 * ------------------------------------------------------------------------------------------------
 */

spec_t *sim_settled(sim_t *sim) {
  spec_t *specs = calloc(sim->disk.cnt + 1, sizeof(*specs));
  uint8_t *has_memory = calloc(sim->disk.cnt + 1, 1);
  assert_true(specs && has_memory);
  for (size_t i = 0; i < sim->disk.cnt; i++) {
    specs[i] = sim->disk.items[i].spec;
    has_memory[i] = (uint8_t)(sim_in_memory(sim, sim->disk.items[i].ws_id) != 0);
  }
  spec_settle(specs, has_memory, sim->disk.cnt);
  free(has_memory);
  return specs;
}

size_t sim_waiting(sim_t const *sim, int answer) {
  size_t cnt = 0;
  for (size_t i = 0; i < sim->pending.cnt; i++) cnt += sim->pending.items[i].answer == answer;
  return cnt;
}
