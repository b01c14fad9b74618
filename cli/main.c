/* main: wkspctl, the hand tool for workspaces. The table of commands, and the frame in which one
   runs.

   One row says all about a command: how it is called, its options, its help. The usage line, the
   check of arguments, the list of commands and --help (help.c) are all made from the row, so they
   agree. */

#include "cli.h"
#include "complete.h"
#include "help.h"
#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HEAP_TEXT "HEAP is NAME:GADDR as printed by heap new.\n"

/* clang-format off */
static cli_command_t const commands[] = {
  { .topic = "workspaces", .name = "create", .operands = {"NAME"},
    .options = {
      {"size", "SIZE", "bytes in all, rounded up to pages; K M G T: powers of 1024", 1, 0},
      {"max-size", "SIZE", "bytes that resize may grow it to (--size)", 0, 0},
      {"page", "PAGE", "4k, 2M, 1G or auto: the largest that fit and are free", 0, 0},
      {"numa", "NODES", "where its pages are to be (near, if possible)", 0, 0},
      {"preferred", NULL, "pages may be elsewhere if there are none there", 0, 0},
      {"mode", "MODE", "who may attach, in octal (0660)", 0, 0},
      {"tag", "TAG", "what it is for, by which quotas may count it", 0, 0},
      {"seed", "N", "a number kept for the programs that use it (0)", 0, 0}},
    .what = "create a workspace",
    .text = "Its memory is taken when this returns; of --max-size only addresses and tables.\n"
            "NODES: local; 0 or 0,1 (in turn); split:0,1,1 (parts); cpu:0-4:2,10 (near cpus).\n"
            "NAME: 1 to 39 letters, digits, '.', '_', '-', first a letter or digit.\n",
    .examples = "  wkspctl create demo --size 64M --max-size 4G\n"
                "  wkspctl create demo --size 8G --page 2M --numa split:0,1\n",
    .run = cmd_create },
  { .name = "plan",
    .options = {
      {"size", "SIZE", "bytes in all, rounded up to pages; K M G T: powers of 1024", 1, 0},
      {"max-size", "SIZE", "bytes that resize may grow it to (--size)", 0, 0},
      {"page", "PAGE", "4k, 2M, 1G or auto: the largest that fit and are free", 0, 0},
      {"numa", "NODES", "where its pages are to be, as for create", 0, 0},
      {"preferred", NULL, "pages may be elsewhere if there are none there", 0, 0}},
    .what = "show what a create would take of each node",
    .text = "Nothing is taken. Exit 1 and what is missing if it cannot be had now.\n",
    .examples = "  wkspctl plan --size 8G --numa 0,1\n"
                "  wkspctl plan --size 8G --page 1G --numa split:0,1,1 --json\n",
    .run = cmd_plan },
  { .name = "ls",
    .what = "list workspaces",
    .text = "State: ok, read-only (by its layout), damaged (as the daemon has seen, until a\n"
            "verify finds nothing), quarantined (not served), removing (rm --force, in use).\n"
            "RW and RO: how many are attached.\n",
    .examples = "  wkspctl ls\n"
                "  wkspctl ls --json\n",
    .run = cmd_ls },
  { .name = "show", .operands = {"NAME"},
    .what = "show the facts about a workspace",
    .text = "Size and max size, pages, owner, mode, uuid, time of creation, who is attached,\n"
            "who holds its lock at this moment, and on which nodes its pages are wanted\n"
            "and are, by the kernel's word.\n",
    .examples = "  wkspctl show demo\n"
                "  wkspctl show demo --json\n",
    .run = cmd_show },
  { .name = "map", .operands = {"NAME"},
    .what = "draw where a workspace lies and what is in use",
    .text = "A strip from its first byte to its last, as wide as the terminal: the node of\n"
            "each part, and how much of it is in partitions. Colour if it is a terminal\n"
            "and NO_COLOR is not set.\n",
    .examples = "  wkspctl map demo\n"
                "  wkspctl map demo --json\n",
    .run = cmd_map },
  { .name = "resize", .operands = {"NAME"},
    .options = {
      {"size", "SIZE", "bytes in all, rounded up to pages; K M G T: powers of 1024", 1, 0}},
    .what = "grow or shrink a workspace while it is in use",
    .text = "Up to the --max-size of its create. Programs that are attached can use the room\n"
            "at once. Down to where the last partition ends: what is behind it goes\n"
            "back to the system; if that is too little, exit 1 and what is in the way.\n",
    .examples = "  wkspctl resize demo --size 1G\n",
    .run = cmd_resize },
  { .name = "rm", .operands = {"NAME"},
    .options = {{"force", NULL, "also when attached: memory goes with the last to detach", 0, 0}},
    .what = "remove a workspace",
    .text = "Refused while anybody is attached, unless --force is given.\n",
    .examples = "  wkspctl rm demo\n"
                "  wkspctl rm demo --force\n",
    .run = cmd_rm },
  { .topic = "contents", .name = "usage", .operands = {"NAME"},
    .options = {{"tag", "TAG", "only partitions with this tag; may be repeated", 0, 1}},
    .what = "show what takes how much of a workspace",
    .text = "Figures for the whole, then partitions and bytes of each tag.\n"
            "TAG: decimal or hexadecimal (0x10).\n",
    .examples = "  wkspctl usage demo\n"
                "  wkspctl usage demo --tag 1 --tag 0x10\n",
    .run = cmd_usage },
  { .name = "query", .operands = {"NAME"},
    .what = "list all partitions and roots of a workspace",
    .text = "Kinds: user (fd_wksp_alloc), spans, heap, large (of an fd_alloc).\n"
            "JSON: a root name that is not UTF-8 comes escaped, with its bytes in name_hex.\n",
    .examples = "  wkspctl query demo\n"
                "  wkspctl query demo --json\n",
    .run = cmd_query },
  { .name = "compact", .operands = {"NAME"},
    .what = "give back what the heaps of a workspace hold without need",
    .text = "Done by the daemon, for every heap in it. Threads stopped in a call are skipped.\n",
    .examples = "  wkspctl compact demo\n"
                "  wkspctl compact demo --timeout 2m\n",
    .run = cmd_compact },
  { .name = "verify", .operands = {"NAME"},
    .what = "check a workspace for damage",
    .text = "Attaches read-only and checks all that the format lets one check.\n"
            "Exit 4 and a list of findings (at most 64) if it is damaged.\n",
    .examples = "  wkspctl verify demo\n"
                "  wkspctl verify demo --json || echo damaged\n",
    .run = cmd_verify },
  { .name = "check", .operands = {"NAME"},
    .what = "the same as verify",
    .text = "Attaches read-only and checks all that the format lets one check.\n"
            "Exit 4 and a list of findings (at most 64) if it is damaged.\n",
    .examples = "  wkspctl check demo\n"
                "  wkspctl check demo --json || echo damaged\n",
    .run = cmd_verify },
  { .name = "rebuild", .operands = {"NAME"},
    .options = {{"seed", "N", "the new seed (as it is)", 0, 0}},
    .what = "mend a damaged workspace",
    .text = "Makes tables and indexes anew from what is allocated; others may be attached.\n"
            "Exit 4 and a list if something had to be dropped or changed.\n",
    .examples = "  wkspctl check demo || wkspctl rebuild demo\n"
                "  wkspctl rebuild demo --seed 42\n",
    .run = cmd_rebuild },
  { .topic = "partitions", .name = "alloc", .operands = {"NAME"},
    .options = {
      {"size", "SIZE", "bytes, from 1 on; K M G T: powers of 1024", 1, 0},
      {"align", "ALIGN", "a power of two (4096)", 0, 0},
      {"tag", "TAG", "what it is for; from 1 on (1)", 0, 0}},
    .what = "take a partition, print its NAME:GADDR",
    .text = "It stays until it is freed, whoever does that. Its bytes are not cleared.\n",
    .examples = "  wkspctl alloc demo --size 1M\n"
                "  wkspctl alloc demo --size 100 --align 64 --tag 0x10\n",
    .run = cmd_alloc },
  { .name = "free", .operands = {"PLACE"},
    .what = "free a partition",
    .text = "PLACE is NAME:GADDR; any address in the partition will do.\n"
            "A program that still uses it is not protected from this.\n",
    .examples = "  wkspctl free demo:0x22000\n",
    .run = cmd_free },
  { .name = "info", .operands = {"NAME"},
    .options = {{"tag", "TAG", "of this tag", 1, 0}},
    .what = "print the first partition of a tag: NAME:GADDR SIZE",
    .text = "That with the lowest address; \"- 0\" if there is none.\n",
    .examples = "  wkspctl info demo --tag 7\n",
    .run = cmd_info },
  { .name = "tag-query", .operands = {"PLACE"},
    .what = "print the tag of the partition at NAME:GADDR",
    .text = "PLACE is NAME:GADDR. Prints 0x0 if nothing is allocated there.\n",
    .examples = "  wkspctl tag-query demo:0x22000\n",
    .run = cmd_tag_query },
  { .name = "tag-free", .operands = {"NAME"},
    .options = {{"tag", "TAG", "partitions with this tag; may be repeated", 1, 1}},
    .what = "free all partitions of a tag",
    .text = "Only those of kind user; refused while an fd_alloc lies in one (heap rm).\n"
            "A program that still uses them is not protected from this.\n",
    .examples = "  wkspctl tag-free demo --tag 7\n"
                "  wkspctl tag-free demo --tag 7 --tag 0x10\n",
    .run = cmd_tag_free },
  { .name = "memset", .operands = {"PLACE", "BYTE"},
    .what = "set every byte of a partition",
    .text = "PLACE is NAME:GADDR; any address in the partition will do. BYTE: 0 to 255.\n",
    .examples = "  wkspctl memset demo:0x22000 0\n"
                "  wkspctl memset demo:0x22000 0xff\n",
    .run = cmd_memset },
  { .name = "reset", .operands = {"NAME"},
    .options = {{"seed", "N", "the new seed (as it is)", 0, 0}},
    .what = "remove all roots and free all partitions",
    .text = "Refused while there are fd_allocs (heap rm). Nobody else may be using it.\n"
            "show goes on giving the seed of the creation.\n",
    .examples = "  wkspctl reset demo\n"
                "  wkspctl reset demo --seed 42\n",
    .run = cmd_reset },
  { .topic = "roots, heaps", .group = "root", .name = "ls", .operands = {"NAME"},
    .what = "list the named roots of a workspace",
    .text = "JSON: a root name that is not UTF-8 comes escaped, with its bytes in name_hex.\n",
    .examples = "  wkspctl root ls demo\n"
                "  wkspctl root ls demo --json\n",
    .run = cmd_root_ls },
  { .group = "root", .name = "set", .operands = {"NAME", "ROOT", "GADDR"},
    .options = {{"tag", "N", "kept with it (that of the partition there)", 0, 0}},
    .what = "bind a root to an address, also if it is bound",
    .text = "ROOT: a name of 1 to 63 bytes. GADDR: a number, or NAME:GADDR.\n",
    .examples = "  wkspctl root set demo words 0x22000\n"
                "  wkspctl root set demo words demo:0x22000 --tag 7\n",
    .run = cmd_root_set },
  { .group = "root", .name = "rm", .operands = {"NAME", "ROOT"},
    .what = "unbind a root",
    .text = "What it pointed to is not freed.\n",
    .examples = "  wkspctl root rm demo words\n",
    .run = cmd_root_rm },
  { .group = "heap", .name = "new", .operands = {"NAME"},
    .options = {
      {"tag", "TAG", "for it and all that it takes; from 1 on", 1, 0},
      {"aligned", NULL, "align each block to the next power of two of its size", 0, 0}},
    .what = "make an fd_alloc heap in a workspace, print its NAME:GADDR",
    .text = "TAG: decimal or hexadecimal (0x10).\n",
    .examples = "  wkspctl heap new demo --tag 7\n"
                "  wkspctl heap new demo --tag 7 --aligned\n"
                "  heap=$(wkspctl heap new demo --tag 0x10)\n",
    .run = cmd_heap_new },
  { .group = "heap", .name = "malloc", .operands = {"HEAP"},
    .options = {
      {"size", "SIZE", "bytes, from 1 on; K M G T: powers of 1024", 1, 0},
      {"align", "ALIGN", "a power of two (16)", 0, 0},
      {"cgroup", "N", "0 to 15: which left heaps to take over first (0)", 0, 0}},
    .what = "allocate a block, print its NAME:GADDR",
    .text = HEAP_TEXT "The block stays until it is freed, whoever does that.\n",
    .examples = "  wkspctl heap malloc demo:0x22000 --size 100\n"
                "  wkspctl heap malloc demo:0x22000 --size 1M --align 4K --cgroup 3\n",
    .run = cmd_heap_malloc },
  { .group = "heap", .name = "free", .operands = {"HEAP", "BLOCK"},
    .what = "free a block",
    .text = HEAP_TEXT "BLOCK is NAME:GADDR as printed by heap malloc or heap leaks.\n"
            "A program that still uses the block is not protected from this.\n",
    .examples = "  wkspctl heap free demo:0x22000 demo:0x30010\n",
    .run = cmd_heap_free },
  { .group = "heap", .name = "compact", .operands = {"HEAP"},
    .what = "give back what a heap holds without need",
    .text = HEAP_TEXT "Others may go on using it. Threads stopped in a call are skipped.\n",
    .examples = "  wkspctl heap compact demo:0x22000\n",
    .run = cmd_heap_compact },
  { .group = "heap", .name = "leaks", .operands = {"HEAP"},
    .options = {{"limit", "N", "list at most N blocks; 0: all (1000)", 0, 0}},
    .what = "list the live blocks of a heap",
    .text = HEAP_TEXT "Kinds: small, large, suspect (was being allocated or freed when its thread\n"
            "was killed). Suspects are always listed. Exit 4 if there are any blocks.\n",
    .examples = "  wkspctl heap leaks demo:0x22000\n"
                "  wkspctl heap leaks demo:0x22000 --limit 0 --json\n",
    .run = cmd_heap_leaks },
  { .group = "heap", .name = "query", .operands = {"HEAP"},
    .options = {
      {"what", "WHAT", "test, tag, leak or full (its figures)", 0, 0},
      {"limit", "N", "list at most N blocks; 0: all (1000)", 0, 0}},
    .what = "show the figures of a heap, or one thing about it",
    .text = HEAP_TEXT "test: only whether it is a heap. leak: as heap leaks. full: figures and blocks.\n"
            "Exact only while nobody allocates or frees.\n",
    .examples = "  wkspctl heap query demo:0x22000\n"
                "  wkspctl heap query demo:0x22000 --what leak\n",
    .run = cmd_heap_query },
  { .group = "heap", .name = "rm", .operands = {"HEAP"},
    .options = {{"level", "LEVEL", "leave, quick or tag (quick)", 0, 0}},
    .what = "delete a heap with all its blocks",
    .text = HEAP_TEXT "quick: all that it holds goes back to the workspace. leave: its blocks stay, as\n"
            "partitions with its tag. tag: all partitions with its tag go, too. Nobody may be\n"
            "using it.\n",
    .examples = "  wkspctl heap rm demo:0x22000\n"
                "  wkspctl heap rm demo:0x22000 --level leave\n",
    .run = cmd_heap_rm },
  { .topic = "daemon", .name = "status",
    .what = "show how the daemon is doing",
    .text = "What it holds, what a restart and a stop would leave of that, whom it serves,\n"
            "and what it has refused since its start.\n",
    .examples = "  wkspctl status\n"
                "  wkspctl status --json --socket /tmp/wkspd.sock\n",
    .run = cmd_status },
  { .name = "clients",
    .what = "list the processes that use the daemon",
    .text = "Those that are connected or hold workspaces: of all users for root and who else\n"
            "administers wkspd, else your own. HOLDS are the workspaces that they opened.\n",
    .examples = "  wkspctl clients\n"
                "  wkspctl clients --json\n",
    .run = cmd_clients },
  { .name = "reload",
    .what = "have the daemon read its configuration again",
    .text = "Makes the workspaces that it declares, resizes those that differ, and says what\n"
            "was done and what could not be. Exit status 1 if something could not be, or is a\n"
            "mistake. For root and the daemon's own user.\n",
    .examples = "  wkspctl reload\n"
                "  wkspctl reload --json\n",
    .run = cmd_reload },
  { .name = "version",
    .what = "show the versions of wkspctl and the daemon",
    .text = "wkspctl --version does without a daemon.\n",
    .examples = "  wkspctl version\n"
                "  wkspctl version --json\n",
    .run = cmd_version },
  { .name = "watch", .operands = {"[NAME]"},
    .options = {{"count", "N", "end after N events", 0, 0},
                {"pressure", NULL, "tell what is nearly used up, too", 0, 0}},
    .what = "print events as they happen",
    .text = "created, removed, attached, detached, quarantined, damaged, sound, resized, and\n"
            "what becomes of checkpoints; of NAME if given. With --pressure also limits,\n"
            "quotas and pools of which nine tenths are used, and when less than eight are.\n"
            "Ends after --timeout (1h); that is a failure only if --count was not reached.\n"
            "With --json each line is one object.\n",
    .examples = "  wkspctl watch\n"
                "  wkspctl watch --pressure --timeout 1h\n"
                "  wkspctl watch demo --count 1 --timeout 10s --json\n",
    .shows = 1, .run = cmd_watch },
  { .topic = "machine", .name = "topology",
    .what = "show nodes and cpus of this machine",
    .text = "Nodes with their cpus and memory, the distances between them, the node of each\n"
            "cpu, and what of it a process started here may use (cpuset). Wants no daemon.\n",
    .examples = "  wkspctl topology\n"
                "  wkspctl topology --json\n",
    .run = cmd_topology },
  { .name = "hugepages",
    .what = "show and set the pools of huge pages",
    .text = "Per node and page size: pages in all, free, surplus (gone when given back), and\n"
            "what of ours holds them; reserved (promised to mappings) is not known per node.\n",
    .examples = "  wkspctl hugepages\n"
                "  wkspctl hugepages --json\n",
    .run = cmd_hugepages },
  { .group = "hugepages", .name = "reserve",
    .options = {
      {"node", "N", "the node, see wkspctl topology", 1, 0},
      {"size", "SIZE", "of a page: 2M, 1G", 1, 0},
      {"count", "N", "pages that the node is to keep in all", 1, 0},
      {"compact", NULL, "if there are too few: move what lies in the way", 0, 0},
      {"drop-caches", NULL, "and forget what files are cached, on all nodes", 0, 0},
      {"demote", NULL, "and split free pages of a larger size", 0, 0}},
    .what = "set how many huge pages a node keeps, until the next boot",
    .text = "For root. Prints how many there are then; exit 1 and the reason if that is not\n"
            "N. Fewer than now gives pages back to the system.\n",
    .examples = "  wkspctl hugepages reserve --node 0 --size 2M --count 512\n"
                "  wkspctl hugepages reserve --node 1 --size 2M --count 512 --demote\n",
    .run = cmd_hugepages_reserve },
  { .group = "hugepages", .name = "apply",
    .options = {{"file", "FILE", "instead of /etc/wkspd/hugepages.conf", 0, 0}},
    .what = "set the pools that hugepages.conf names, as at boot",
    .text = "For root. A section [node N] each, with lines 2M = COUNT, 1G = COUNT. The whole\n"
            "file is checked before anything is set.\n",
    .examples = "  wkspctl hugepages apply\n"
                "  wkspctl hugepages apply --file ./hugepages.conf\n",
    .run = cmd_hugepages_apply },
  { .topic = "checkpoints", .name = "checkpoint", .operands = {"NAME"},
    .options = {
      {"mode", "MODE", "fuzzy (default): nobody waits; quiesce: one moment", 0, 0},
      {"style", "STYLE", "raw, lz4 (default), zstd or zstd:LEVEL; see styles", 0, 0},
      {"info", "TEXT", "kept with it, at most 1,023 bytes", 0, 0},
      {"wait", NULL, "follow it to its end", 0, 0}},
    .what = "write down what lives in a workspace",
    .text = "A job of the daemon's, which goes on by itself; what an earlier checkpoint has\n"
            "is not written again. quiesce: one moment of all updates that programs bracket\n"
            "(wksp/pause.h).\n",
    .examples = "  wkspctl checkpoint demo --wait\n"
                "  wkspctl checkpoint demo --mode quiesce --style zstd:3 --info 'before 2.0'\n",
    .shows = 1, .run = cmd_checkpoint },
  { .name = "checkpoints", .operands = {"[NAME]"},
    .what = "list checkpoints",
    .text = "Of one workspace, also one that is gone, or of all. FILES: bytes that it added.\n",
    .examples = "  wkspctl checkpoints demo\n"
                "  wkspctl checkpoints --json\n",
    .run = cmd_checkpoints },
  { .name = "checkpoint-show", .operands = {"ID"},
    .options = {{"verbose", "N", "1: tags, fd_allocs and roots too; 2: each partition", 0, 0}},
    .what = "show what a checkpoint says of itself",
    .text = "Read from disk. JSON has the figures of the list.\n",
    .examples = "  wkspctl checkpoint-show 17.1a1ff9b1d83 --verbose 1\n",
    .run = cmd_checkpoint_show },
  { .name = "checkpoint-verify", .operands = {"[ID]"},
    .options = {{"all", NULL, "every one that there is", 0, 0}},
    .what = "read all of a checkpoint and check it",
    .text = "Every digest of it. Exit 4 if it is damaged.\n",
    .examples = "  wkspctl checkpoint-verify 17.1a1ff9b1d83\n"
                "  wkspctl checkpoint-verify --all\n",
    .shows = 1, .run = cmd_checkpoint_verify },
  { .name = "drill", .operands = {"NAME"},
    .options = {{"from", "ID", "the checkpoint (the newest of NAME that is sound)", 0, 0}},
    .what = "restore a checkpoint for trial and throw it away",
    .text = "Into memory that nobody else sees, where all of it is verified. Exit 4 if it is\n"
            "damaged. schedule NAME --drill TIME does so by itself.\n",
    .examples = "  wkspctl drill demo\n",
    .shows = 1, .run = cmd_drill },
  { .name = "checkpoint-rm", .operands = {"ID"},
    .what = "remove a checkpoint",
    .text = "Others are as complete as before. For the workspace's owner, and root.\n",
    .examples = "  wkspctl checkpoint-rm 17.1a1ff9b1d83\n",
    .run = cmd_checkpoint_rm },
  { .name = "styles",
    .what = "list the styles that checkpoints can have",
    .text = "They can be mixed: each checkpoint says how it was written.\n",
    .examples = "  wkspctl styles\n",
    .run = cmd_styles },
  { .name = "restore", .operands = {"NAME"},
    .options = {
      {"from", "ID", "the checkpoint (the newest of NAME that is sound)", 0, 0},
      {"as", "NEW", "what to call what comes of it (NAME)", 0, 0},
      {"tag", "TAG", "only partitions with this tag; may be repeated", 0, 1},
      {"in-place", NULL, "into the workspace of that name, which is there", 0, 0},
      {"size", "SIZE", "bytes (as it was); what lives in it must fit", 0, 0},
      {"max-size", "SIZE", "what it can be resized to (as it was, or --size)", 0, 0},
      {"page", "PAGE", "4k, 2M or 1G (as it was)", 0, 0},
      {"numa", "WHERE", "where its pages are to be (as it was); see create", 0, 0},
      {"seed", "N", "a new seed (as it was)", 0, 0}},
    .what = "make a workspace from a checkpoint",
    .text = "It is there when all of it has been put in and verified; what fails leaves\n"
            "nothing. There must be no workspace of that name; with --in-place there must\n"
            "be one, to which nobody is attached. It stays as it is until the new one can\n"
            "take its place, so there must be pages for both. Addresses stay as they were,\n"
            "and tables have no more room than they had: so there is a largest --max-size.\n",
    .examples = "  wkspctl restore demo --in-place --from 17.1a1ff9b1d83\n"
                "  wkspctl restore demo --from 17.1a1ff9b1d83 --as demo-before --page 4k\n",
    .shows = 1, .run = cmd_restore },
  { .name = "schedule", .operands = {"NAME"},
    .options = {
      {"every", "TIME", "an interval such as 5m, 1h, 1d, or never", 0, 0},
      {"jitter", "TIME", "each run is up to so much late (0)", 0, 0},
      {"mode", "MODE", "fuzzy (default) or quiesce", 0, 0},
      {"style", "STYLE", "raw, lz4 (default), zstd or zstd:LEVEL", 0, 0},
      {"keep-last", "N", "how many to keep of those not taken by hand", 0, 0},
      {"keep-hourly", "N", "and of the last N hours with one the newest", 0, 0},
      {"keep-daily", "N", "of the last N days (UTC)", 0, 0},
      {"keep-weekly", "N", "of the last N weeks", 0, 0},
      {"keep-monthly", "N", "of the last N months", 0, 0},
      {"on-stop", "WHAT", "checkpoint or nothing, when the daemon stops", 0, 0},
      {"on-start", "WHAT", "restore or nothing, if it is not there then", 0, 0},
      {"drill", "TIME", "restore the newest for trial so often, or never", 0, 0},
      {"drop", NULL, "have none any more", 0, 0}},
    .what = "have a workspace checkpointed by itself, or show how",
    .text = "What is not given stays as it is. Without any --keep all are kept.\n",
    .examples = "  wkspctl schedule demo --every 5m --drill 1d --on-stop checkpoint\n",
    .run = cmd_schedule },
  { .topic = "jobs", .name = "jobs",
    .what = "list checkpoints, restores and the like that are under way",
    .text = "And the last that have ended.\n",
    .examples = "  wkspctl jobs\n",
    .run = cmd_jobs },
  { .name = "cancel", .operands = {"JOB"},
    .what = "cancel a job",
    .text = "Nothing of it is left: no half checkpoint, no half workspace.\n",
    .examples = "  wkspctl cancel 12\n",
    .run = cmd_cancel },
  { .topic = "watching", .name = "doctor",
    .what = "find what is in the way of workspaces, and how to mend it",
    .text = "Looks at socket, daemon, units, limits, nodes, pools, control groups and kernel.\n"
            "ok: well. warn: worse than it could be. fail: something does not work; exit 1.\n",
    .examples = "  wkspctl doctor\n"
                "  wkspctl doctor --json\n",
    .run = cmd_doctor },
  { .name = "top",
    .options = {{"interval", "TIME", "between two looks (2s)", 0, 0}},
    .what = "watch the daemon and its workspaces live",
    .text = "A line for each workspace: what is used of it, its largest free piece, how much\n"
            "of what is free does not lie in that (FRAG), who is attached, and how old the\n"
            "last verified checkpoint is. Enter shows one: its pages by node, checkpoints and\n"
            "jobs, tags, fd_allocs, size classes, clients. Wants a terminal.\n",
    .examples = "  wkspctl top\n"
                "  wkspctl top --interval 500ms\n",
    .shows = 1, .run = cmd_top },
  { .name = "metrics",
    .options = {
      {"format", "FORMAT", "openmetrics or prometheus (openmetrics)", 0, 0},
      {"listen", "WHERE", "serve HTTP at 127.0.0.1:PORT, [::1]:PORT or a path", 0, 0}},
    .what = "print figures of the daemon and its workspaces as metrics",
    .text = "openmetrics: OpenMetrics 1.0. prometheus: what promtool and the textfile\n"
            "collector read. Of workspaces that we may read; of a damaged one what ls says.\n",
    .examples = "  wkspctl metrics\n"
                "  wkspctl metrics --format prometheus\n"
                "  wkspctl metrics --listen 127.0.0.1:9477\n",
    .shows = 1, .run = cmd_metrics },
  { .name = NULL },
};
/* clang-format on */

/* A descriptor 0 to 2 that was closed by the caller would be given to the next open, and a table
   would be printed into the daemon's socket. The other way round it fails as it should. 0 or -1. */
static int hold_standard_fds(void) {
  for (int fd = 0; fd <= 2; fd++)
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd) return -1;
  return 0;
}

int main(int argc, char **argv) {
  if (hold_standard_fds()) return CLI_FAILED;
  setlocale(LC_CTYPE, "");
  /* A reader that has gone away shows as EPIPE in cli_flush. */
  signal(SIGPIPE, SIG_IGN);

  if (argc > 1 && !strcmp(argv[1], "__complete")) return complete(commands, argc - 2, argv + 2);
  cli_t cli = {0};
  cli_args_t args;
  int status = cli_args_read(&cli, commands, argc, argv, &args);
  if (status) return status;
  if (args.help) {
    if (args.command)
      help_command(commands, args.command);
    else if (args.group)
      help_group(commands, args.group);
    else if (args.every)
      help_every(commands);
    else
      help_overview(commands);
  } else if (!args.command || args.version) {
    printf("wkspctl %s\n", WKSP_VERSION);
  } else {
    if (!cli.json && !args.command->shows) progress_begin(cli.command);
    status = args.command->run(&cli, &args);
    progress_end();
  }
  /* After a failure the rest of the result does not matter any more. */
  if (status == CLI_OK || status == CLI_FOUND) status = cli_flush(&cli, status);
  wksp_client_close(cli.client);
  cli_args_free(&args);
  return status;
}
