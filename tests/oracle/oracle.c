/* tests/oracle/oracle.c: hold the classifier against PostgreSQL's own parser.
 *
 * oracle STATEMENTS.sql MISSES.txt [seed [count]]: judges the statements of the file (one a line), the
 * rows of the unit tests, statements by grammar and mutations of all of them, until `count` of them
 * were parsed. Fails if pgweir calls one a read that the parse tree does not, or if it knows fewer
 * than 99 % of the tree's reads, or if the fast and the full path differ, with or without a catalog. Every
 * disagreement is written to MISSES.txt.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router/catalog.h"
#include "router/classify.h"
#include "tests/oracle/generate.h"
#include "tests/oracle/parse_tree.h"

#define COUNT_DEFAULT 30000
#define KEPT_MAX 4096 /* statements that mutations start from */
#define READS_KNOWN_PERCENT 99

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const struct {
    enum sql_class class;
    const char *sql;
} rows[] = {
#include "tests/unit/test_router_statements.def"
};

struct tally {
    unsigned judged, parsed, reads, known, wrong;
};

struct run {
    uint64_t seed;
    struct catalog *catalog; /* of random facts: only to hold the two paths against each other */
    unsigned count;          /* parsed statements to reach */
    FILE *misses;
    struct tally all, plain; /* plain: as written or by grammar, without mutations */
    char *kept[KEPT_MAX];
    unsigned kept_n;
};

static void report(struct run *run, const char *what, const struct sql_facts *facts,
                   const char *why, const char *sql)
{
    fprintf(run->misses, "%s: %s (%s), tree says %s\n%s\n\n", what,
            sql_class_text((enum sql_class)facts->class),
            route_reason_text((enum route_reason)facts->reason), why == NULL ? "read" : why, sql);
}

static void count(struct tally *tally, bool tree_reads, bool we_read)
{
    tally->parsed++;
    tally->reads += tree_reads;
    tally->known += tree_reads && we_read;
    tally->wrong += !tree_reads && we_read;
}

/* Of names that the statements are made of: harmless ones, others, and ones that are not there. */
static struct catalog *random_catalog(uint64_t *seed)
{
    static const char *const names[] = {
        "x",  "n",     "q",    "a",    "t",       "b",    "f",    "s", "my_function", "t1",
        "t2", "users", "id",   "name", "lower",   "max",  "now",  "=", "<>",          "<",
        ">",  ">=",    "<=",   "~~",   "!~~",     "~~*",  "+",    "-", "*",           "||",
        "/",  "int",   "int4", "text", "numeric", "date", "count"};
    struct catalog *catalog = catalog_new(1);
    for (unsigned kind = 0; kind < CATALOG_PARAMETER; kind++)
        for (size_t i = 0; i < COUNT(names); i++)
            if (generate_below(seed, 2) == 0)
                catalog_put(catalog, (enum catalog_kind)kind, slice_of("my_schema"),
                            slice_of(names[i]),
                            generate_below(seed, 8) == 0 ? SQL_WRITER_FUNCTION : SQL_READ,
                            ROUTE_WHY_USER_FUNCTION);
    return catalog;
}

/* quick.c and body.c must say the same. */
static void hold_paths(struct run *run, const char *sql, const struct sql_env *env,
                       struct sql_facts *facts)
{
    struct sql_facts in_full;
    sql_classify(slice_of(sql), env, facts);
    sql_classify_in_full(slice_of(sql), env, &in_full);
    if (memcmp(facts, &in_full, sizeof in_full) == 0)
        return;
    report(run, "WRONG", facts, "nothing: quick.c and body.c differ", sql);
    run->all.wrong++;
}

static void judge(struct run *run, const char *sql, bool mutated)
{
    const struct sql_env env = {.standard_conforming_strings = true};
    const struct sql_env with = {.standard_conforming_strings = true, .catalog = run->catalog};
    struct sql_facts facts;
    hold_paths(run, sql, &with, &facts);
    hold_paths(run, sql, &env, &facts);
    const struct tree_verdict tree = tree_judge(sql);
    const bool tree_reads = tree.what == TREE_READ, we_read = (facts.flags & SQL_F_READ) != 0;
    run->all.judged++;
    if (tree.what == TREE_ERROR)
        return;
    count(&run->all, tree_reads, we_read);
    if (!mutated)
        count(&run->plain, tree_reads, we_read);
    if (we_read && !tree_reads)
        report(run, "WRONG", &facts, tree.why, sql);
    if (!we_read && tree_reads)
        report(run, "missed", &facts, NULL, sql);
}

static void keep(struct run *run, const char *sql)
{
    const unsigned at = run->kept_n < KEPT_MAX ? run->kept_n : generate_below(&run->seed, KEPT_MAX);
    if (run->kept_n < KEPT_MAX)
        run->kept_n++;
    else
        free(run->kept[at]);
    run->kept[at] = strdup(sql);
}

static void judge_written(struct run *run, const char *sql)
{
    judge(run, sql, false);
    keep(run, sql);
}

/* One statement a line; lines that begin with # are for people. */
static bool judge_file(struct run *run, const char *path)
{
    static char line[ORACLE_TEXT_MAX];
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return false;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] != '#' && line[0] != 0)
            judge_written(run, line);
    }
    fclose(file);
    return true;
}

static void judge_generated(struct run *run)
{
    static char text[ORACLE_TEXT_MAX], mutated[ORACLE_TEXT_MAX];
    while (run->all.parsed < run->count) {
        if (generate_below(&run->seed, 1000) == 0) {
            catalog_free(run->catalog);
            run->catalog = random_catalog(&run->seed);
        }
        if (generate_statement(&run->seed, text)) {
            judge(run, text, false);
            if (strlen(text) < 400 && generate_below(&run->seed, 4) == 0)
                keep(run, text);
        }
        for (unsigned i = 0; i < 3; i++) {
            const char *from = run->kept[generate_below(&run->seed, run->kept_n)];
            if (generate_mutation(&run->seed, from, mutated))
                judge(run, mutated, true);
        }
    }
}

static void print(const char *what, const struct tally *tally)
{
    printf("%s: %u parsed, %u reads by the parse tree, known %u (%.2f %%), called a read and is "
           "none: %u\n",
           what, tally->parsed, tally->reads, tally->known,
           tally->reads == 0 ? 0 : 100.0 * tally->known / tally->reads, tally->wrong);
}

int main(int argc, char **argv)
{
    static struct run run;
    if (argc < 3 || (run.misses = fopen(argv[2], "w")) == NULL) {
        fprintf(stderr, "oracle STATEMENTS.sql MISSES.txt [seed [count]]\n");
        return 2;
    }
    run.seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
    run.count = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 0) : COUNT_DEFAULT;
    run.catalog = random_catalog(&run.seed);
    if (!judge_file(&run, argv[1]))
        return 2;
    for (size_t i = 0; i < COUNT(rows); i++)
        judge_written(&run, rows[i].sql);
    judge_generated(&run);
    for (unsigned i = 0; i < run.kept_n; i++)
        free(run.kept[i]);
    catalog_free(run.catalog);
    fclose(run.misses);
    print("written and by grammar", &run.plain);
    print("with mutations        ", &run.all);
    printf("%u texts judged; disagreements: %s\n", run.all.judged, argv[2]);
    const bool enough =
        (uint64_t)run.all.known * 100 >= (uint64_t)run.all.reads * READS_KNOWN_PERCENT &&
        (uint64_t)run.plain.known * 100 >= (uint64_t)run.plain.reads * READS_KNOWN_PERCENT;
    return run.all.wrong == 0 && enough ? 0 : 1;
}
