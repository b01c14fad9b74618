/* progress: what a terminal shows of a command that takes longer than half a second. */

#ifndef WKSPCTL_PROGRESS_H
#define WKSPCTL_PROGRESS_H

/* If standard error is a terminal: from half a second on a line there says what is under way, and
   for how long. Standard output is written at the end. command stays until progress_end. */
void progress_begin(char const *command);

/* Takes the line away, before anything else is printed. Without progress_begin: nothing. */
void progress_end(void);

#endif
