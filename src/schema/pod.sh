# Runs one of PostgreSQL's client programs with nothing of the container's environment but where programs and libraries are.
# The first line of its input is the password, empty for none: so it stands in no argument. Parameters: the program and its
# arguments. Needs sh and env.
exec env -i PATH="$PATH" ${LD_LIBRARY_PATH:+"LD_LIBRARY_PATH=$LD_LIBRARY_PATH"} \
    LC_ALL=C PGPASSFILE=/dev/null/none PGOPTIONS='-c standard_conforming_strings=on' \
    sh -c 'IFS= read -r PGPASSWORD; export PGPASSWORD; exec "$@"' sh "$@"
