# Perl's DBD::Pg as it comes: AutoCommit, statements named on the server at their second use.
# README.md says how this talks with matrix.py.
use strict;
use warnings;
use utf8;
use open qw(:std :encoding(UTF-8));
use DBD::Pg qw(:pg_types :async);
use DBI;
use JSON::PP;

my $port = shift;
my $text = "It's \"ü\" \\ \x{1F600}";
my $sum = 'SELECT coalesce(sum(id), 0)::int FROM t';
my $json = JSON::PP->new->canonical;
$| = 1;

sub tell_runner { print $json->encode({@_}), "\n" }
sub await_running { tell_runner(await => shift); scalar <STDIN> }

sub connect_db {
    my ($more, $password) = @_;
    return DBI->connect("dbi:Pg:host=127.0.0.1;port=$port;dbname=app;" . ($more // ''), 'app_scram', $password // 'secret',
        { RaiseError => 1, PrintError => 0 });
}

# A number as a number: DBD::Pg gives most as text.
sub value { my $v = shift; return defined $v && !ref $v && $v =~ /^-?\d+\z/ ? $v + 0 : $v }

# The row, the one value, or how many rows were changed.
sub run {
    my ($s, @values) = @_;
    my $n = $s->execute(@values);
    return $n + 0 if !$s->{NUM_OF_FIELDS};
    my @row = map { value($_) } $s->fetchrow_array;
    $s->finish;
    return @row == 1 ? $row[0] : [@row];
}
sub ask { my ($db, $sql, @values) = @_; return run($db->prepare($sql), @values) }

sub code {
    my $error = $@;
    my $state = $DBI::state // '';
    return '28P01' if $error =~ /password authentication failed/;
    return '42704' if $error =~ /unrecognized configuration parameter/;
    return 'lost' if $state eq '57P01' || $state =~ /^08/ || $error =~ /server closed the connection|terminating connection/;
    return $state || $error;
}
sub fails { my $work = shift; my $seen; return eval { $seen = $work->(); 1 } ? $seen : code() }

sub same {
    my ($times, $ask) = @_;
    my @answers = map { scalar $ask->() } 1 .. $times;
    my $first = $json->encode([$answers[0]]);
    return (grep { $json->encode([$_]) ne $first } @answers) ? \@answers : $answers[0];
}

sub rolling_back { my ($db, $sql) = @_; $db->begin_work; $db->do($sql); $db->rollback }

my %scenarios = (
    login => sub {
        return [@{ask(connect_db(), 'SELECT current_user, current_database()')}, fails(sub { connect_db('', 'wrong') })];
    },
    startup => sub {
        my $db = connect_db("options='-c work_mem=9MB';application_name=drive");
        my $show = sub { ask($db, 'SHOW work_mem') };
        return [$show->(), same(10, $show), ask($db, 'SHOW application_name'), fails(sub { connect_db("options='-c nosuch=1'") })];
    },
    clients => sub {
        my @clients = map { connect_db() } 0 .. 3;
        return [map { my $n = $_; same(5, sub { ask($clients[$n], 'SELECT ?::int', $n) }) } 0 .. 3];
    },
    settings => sub {
        my @clients = map { connect_db() } 0 .. 3;
        $clients[$_]->do("SET work_mem = '" . ($_ + 5) . "MB'") for 0 .. 3;
        return same(5, sub { [map { ask($_, 'SHOW work_mem') } @clients] });
    },
    simple => sub {
        my $db = connect_db();
        my @seen = (ask($db, 'SELECT 1 + 1'), $db->do("INSERT INTO t VALUES (1, 'one')") + 0);
        rolling_back($db, "INSERT INTO t VALUES (2, 'two')");
        push @seen, fails(sub { ask($db, 'SELECT * FROM nowhere') });
        $db->begin_work;
        $db->do("INSERT INTO t VALUES (3, 'three')");
        $db->pg_savepoint('s');
        push @seen, fails(sub { $db->do("INSERT INTO t VALUES (1, 'again')") });
        $db->pg_rollback_to('s');
        $db->commit;
        my $rows = $db->selectall_arrayref('SELECT id, note FROM t ORDER BY id');
        return [@seen, [map { [value($_->[0]), $_->[1]] } @$rows]];
    },
    extended => sub {
        my $db = connect_db();
        my $s = $db->prepare('SELECT ?::int, ?::text, ?::text, ?::bool, ?::float8, ?::bytea, ?::int[]');
        my @values = (7, $text, undef, 1, 1.5, undef, [1, 2, 3]);
        $s->bind_param($_ + 1, $values[$_]) for 0 .. 6;
        $s->bind_param(6, "\0\xff'", { pg_type => PG_BYTEA });
        $s->execute;
        my @row = $s->fetchrow_array;
        $row[0] += 0;
        $row[3] = $row[3] ? JSON::PP::true : JSON::PP::false;
        $row[4] += 0;
        $row[5] = unpack 'H*', $row[5];
        $row[6] = [map { $_ + 0 } @{$row[6]}];
        return [\@row, ask($db, 'INSERT INTO t VALUES (?, ?) RETURNING id', 5, $text), fails(sub { ask($db, 'SELECT 1 / ?::int', 0) }),
            ask($db, 'SELECT ?::int', 8)];
    },
    named => sub {
        my ($db, $other) = (connect_db(), connect_db());
        my ($put, $total, $ratio) = map { $db->prepare($_) } "INSERT INTO t VALUES (?, 'x')", $sum, 'SELECT 1 / ?::int';
        my $done = 0;
        $done += run($put, $_) for 1 .. 20;
        my @seen = ($done, same(10, sub { run($total) }));
        push @seen, same(3, sub { fails(sub { run($ratio, 0) }) }), same(10, sub { run($total) });
        my ($a, $b) = ($db->prepare("SELECT 'a' WHERE ? = 1"), $other->prepare("SELECT 'b' WHERE ? = 1"));
        return [@seen, same(5, sub { run($a, 1) }), same(5, sub { run($b, 1) })];
    },
    pipeline => sub { die "skip: DBD::Pg has no pipeline\n" },
    copy => sub {
        my $db = connect_db();
        my $into = sub {
            $db->do('COPY t FROM STDIN');
            $db->pg_putcopydata($_) for @_;
            $db->pg_putcopyend;
            return ask($db, 'SELECT count(*) FROM t');
        };
        my @seen = ($into->(map { "$_\trow\n" } 1 .. 1000), ask($db, $sum));
        $db->do('COPY t TO STDOUT');
        my ($line, $lines) = ('', 0);
        $lines++ while $db->pg_getcopydata($line) >= 0;
        push @seen, $lines, fails(sub { $into->("2000\tok\nbad\tx\n", "3000\tx\n" x 5000) });
        return [@seen, ask($db, 'SELECT count(*) FROM t')];
    },
    listen => sub {
        my ($db, $other) = (connect_db(), connect_db());
        my $heard = sub {
            my $news = $db->pg_notifies;
            vec(my $socket = '', $db->{pg_socket}, 1) = 1;
            $news = $db->pg_notifies if !$news && select($socket, undef, undef, 5);
            return $news && $news->[2];
        };
        $db->do('LISTEN news');
        $other->do("NOTIFY news, 'one'");
        my @seen = ($heard->());
        ask($db, 'INSERT INTO t VALUES (?)', $_) for 0 .. 9;
        $other->do("NOTIFY news, 'two'");
        push @seen, $heard->();
        rolling_back($other, "NOTIFY news, 'three'");
        $db->do("NOTIFY news, 'four'");
        push @seen, $heard->();
        $db->do('UNLISTEN news');
        return \@seen;
    },
    cursor => sub { # DBD::Pg's manual: DECLARE and FETCH; here once WITH HOLD, once in a transaction
        my $db = connect_db();
        my ($total, $everything) = (0, 0);
        my $fetch = sub { my $rows = $db->selectcol_arrayref("FETCH 100 FROM $_[0]"); return @$rows };
        $db->do('DECLARE part CURSOR WITH HOLD FOR SELECT n FROM big ORDER BY n');
        for (1 .. 10) {
            $total += $_ for $fetch->('part');
            ask($db, 'SELECT 1');
        }
        $db->do('CLOSE part');
        $db->begin_work;
        $db->do('DECLARE whole CURSOR FOR SELECT n FROM big ORDER BY n');
        while (my @rows = $fetch->('whole')) { $everything += $_ for @rows }
        $db->commit;
        return [$total, $everything, ask($db, 'SELECT 1 + 1')];
    },
    cancel => sub {
        my ($db, @seen) = (connect_db());
        for my $n (0, 1) {
            $db->do("SELECT pg_sleep(30) /* cancel-me-$n */", { pg_async => PG_ASYNC });
            await_running("cancel-me-$n");
            push @seen, fails(sub { $db->pg_cancel ? '57014' : 'not cancelled' }), ask($db, 'SELECT 1');
        }
        return \@seen;
    },
    set => sub {
        my $db = connect_db();
        my $show = sub { ask($db, 'SHOW work_mem') };
        my $who = sub { ask($db, 'SELECT current_user') };
        $db->do("SET work_mem = '7MB'");
        my @seen = (same(10, $show));
        $db->do('SET search_path = extra, public');
        push @seen, same(5, sub { ask($db, 'SELECT note FROM only_extra') });
        rolling_back($db, "SET work_mem = '8MB'");
        push @seen, same(5, $show);
        $db->begin_work;
        $db->do("SET LOCAL work_mem = '6MB'");
        push @seen, $show->();
        $db->commit;
        push @seen, same(5, $show);
        $db->do("SET TIME ZONE 'Asia/Tokyo'");
        push @seen, same(5, sub { $db->selectrow_array("SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')") });
        $db->do('SET ROLE app');
        push @seen, same(5, $who);
        $db->do('RESET ROLE');
        push @seen, same(5, $who), fails(sub { $db->do("SET work_mem = 'nonsense'") });
        $db->do('RESET work_mem');
        push @seen, same(5, $show);
        $db->do('RESET search_path');
        push @seen, same(5, sub { fails(sub { ask($db, 'SELECT note FROM only_extra') }) });
        ask($db, 'SELECT set_config(?, ?, false)', 'work_mem', '5MB');
        return [@seen, same(5, $show)];
    },
    kept => sub {
        my %clients = (one => connect_db(), two => connect_db());
        my @seen;
        open my $lines, '<', 'kept.sql' or die $!;
        while (<$lines>) {
            chomp;
            my ($who, $sql) = split / /, $_, 2;
            my $value = ask($clients{$who}, $sql);
            push @seen, $value if $sql =~ /^(SELECT|FETCH|EXECUTE)/;
        }
        return \@seen;
    },
    large => sub {
        my $db = connect_db();
        my $big = 'ü234567' x 1_000_000; # 8 MB of UTF-8
        my $sent = ask($db, 'SELECT octet_length(?)', $big);
        ask($db, 'INSERT INTO t VALUES (1, ?)', $big);
        my $back = ask($db, 'SELECT note FROM t');
        utf8::encode($back);
        my $rows = $db->selectcol_arrayref("SELECT repeat('x', 2000) FROM generate_series(1, 2000)");
        my $all = 0;
        $all += length for @$rows;
        return [$sent, length $back, scalar @$rows, $all];
    },
    readonly => sub {
        my ($db, $other) = (connect_db(), connect_db());
        my $count = sub { ask($db, 'SELECT count(*) FROM t') };
        $db->{ReadOnly} = 1; # every transaction begins with SET TRANSACTION READ ONLY
        $db->begin_work;
        my @seen = ($count->(), fails(sub { $db->do('INSERT INTO t VALUES (1)') }));
        $db->rollback;
        $db->{ReadOnly} = 0;
        $db->do('INSERT INTO t VALUES (1)');
        push @seen, $count->();
        $db->begin_work;
        $db->do('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
        push @seen, $count->();
        $other->do('INSERT INTO t VALUES (2)');
        push @seen, $count->();
        $db->commit;
        $db->do('INSERT INTO t VALUES (3)');
        return [@seen, $count->()];
    },
    ddl => sub {
        my ($db, $other) = (connect_db(), connect_db());
        $db->do('CREATE TABLE ddl_t (a int)');
        $db->do('INSERT INTO ddl_t VALUES (1)');
        my $look = $db->prepare('SELECT * FROM ddl_t WHERE 1 = ?');
        my @seen = (same(7, sub { run($look, 1) }));
        my $n = 0;
        for my $change ('ALTER TABLE ddl_t ADD b int DEFAULT 2',
            "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')") {
            $other->do($change);
            ask($db, 'INSERT INTO t VALUES (?)', $n++); # what is read from now on is not older than the change
            push @seen, fails(sub { run($look, 1) }) for 1 .. 3;
            $look = undef; # first its DEALLOCATE, then the next one
            $look = $db->prepare('SELECT * FROM ddl_t WHERE 1 = ?');
            push @seen, same(5, sub { run($look, 1) });
        }
        return \@seen;
    },
    killed => sub {
        my $db = connect_db();
        tell_runner(kill => 'kill-me');
        $db->begin_work;
        $db->do('INSERT INTO t VALUES (1)');
        my @seen = (fails(sub { ask($db, 'SELECT pg_sleep(30) /* kill-me */') }));
        my $again = connect_db();
        return [@seen, ask($again, 'SELECT count(*) FROM t'), $again->do('INSERT INTO t VALUES (2)') + 0];
    },
);

while (my $name = <STDIN>) {
    chomp $name;
    my $seen;
    if (eval { $seen = $scenarios{$name}->(); 1 }) {
        tell_runner(seen => $seen);
    } elsif ($@ =~ /^skip: (.*)/) {
        tell_runner(skip => $1);
    } else {
        warn $@;
        tell_runner(error => code() . ' ' . substr $@, 0, 500);
    }
}
